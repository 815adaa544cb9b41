import FoundationEssentials
import Testing

@testable import Images

/// Images that are wrong: each is refused with its reason, and leaves nothing.
@Suite(.enabled(if: ForeignImage.isRoot, "SKIPPED: only root can keep the owners of an image's files")) struct RefusalTests {
    private func expectRefusal(
        _ foreign: ForeignImage, _ reason: String, transport: String = "oci", suffix: String = "", limits: ImportLimits = ImportLimits(),
        location: SourceLocation = #_sourceLocation
    ) throws {
        #expect(sourceLocation: location) { try foreign.load(transport, suffix, limits: limits) } throws: { error in
            guard case ImageError.importRefused(_, let found) = error else { return false }
            #expect(found.contains(reason), "\(found)", sourceLocation: location)
            return true
        }
        let left = try Files.names(in: "\(foreign.fixture.path)/images").filter { $0 != ".lock-a" }
        #expect(left.isEmpty, sourceLocation: location)
        #expect(try Files.names(in: "\(foreign.fixture.path)/logs").isEmpty, sourceLocation: location)
        #expect(!Files.exists(foreign.tree), sourceLocation: location)
    }

    /// Members that no layer may have, each beside a harmless one.
    static let layers: [(String, @Sendable (inout TarBuilder) -> Void)] = [
        ("leads upwards", { $0.add("../evil", "x") }),
        ("leads upwards", { $0.add("a/../../evil", "x") }),
        (
            "leads upwards",
            {
                $0.extend([("path", Array("/../evil".utf8))]); $0.add("a", "x")
            }
        ),
        ("leads upwards", { $0.add("a", type: "1", link: "../../../../etc/passwd") }),
        ("has no target", { $0.add("a", type: "2") }),
        ("No such file", { $0.add("a", type: "1", link: "etc/shadow") }),
        (
            "Is a directory",
            {
                $0.add("d/", type: "5"); $0.add("a", type: "1", link: "d")
            }
        ),
        ("Not a directory", { $0.add("harmless/below", "x") }),
        (
            "Too many levels",
            {
                $0.add("l", type: "2", link: "l"); $0.add("l/x", "x")
            }
        ),
        (
            "zero byte",
            {
                $0.extend([("path", [65, 0, 66])]); $0.add("a", "x")
            }
        ),
        (
            "too deep",
            {
                $0.extend([("path", Array(String(repeating: "d/", count: 300).utf8))]); $0.add("a", "x")
            }
        ),
        (
            "more than",
            {
                $0.extend([("path", Array(String(repeating: "d/", count: 3000).utf8))]); $0.add("a", "x")
            }
        ),
        (
            "a name in it too long",
            {
                $0.extend([("path", Array(String(repeating: "n", count: 256).utf8))]); $0.add("a", "x")
            }
        ),
        ("no valid whiteout", { $0.add(".wh.", "") }),
        ("no valid whiteout", { $0.add("a/.wh..", "") }),
        ("no valid whiteout", { $0.add(".wh...", "") }),
        ("no valid whiteout", { $0.add(".wh.x/inside", "") }),
        ("not supported", { $0.add("v", type: "V") }),
        (
            "map of its holes",
            {
                $0.extend([("GNU.sparse.major", Array("1".utf8))]); $0.add("a", "x")
            }
        ),
        (
            "map of its holes",
            {
                $0.extend([("GNU.sparse.map", Array("0,5,3,1".utf8)), ("GNU.sparse.size", Array("100".utf8))]); $0.add("a", "123456")
            }
        ),
        (
            "map of its holes",
            {
                $0.extend([("GNU.sparse.map", Array("99,2".utf8)), ("GNU.sparse.size", Array("100".utf8))]); $0.add("a", "12")
            }
        ),
        (
            "map of its holes",
            {
                $0.extend([("GNU.sparse.major", Array("1".utf8)), ("GNU.sparse.realsize", Array("9".utf8))])
                $0.add("a", String(repeating: "1", count: 512))
            }
        ),
        (
            "larger than the limit",
            {
                $0.extend([("GNU.sparse.map", Array("0,1".utf8)), ("GNU.sparse.size", Array("100000000000".utf8))]); $0.add("a", "1")
            }
        ),
        ("map of its holes", { $0.add("s", type: "S", size: 10) }),
        (
            "larger than the limit",
            {
                $0.add("a", size: 0o77777777); $0.bytes += [UInt8](repeating: 0, count: 0o77777777 + 1)
            }
        ),
        (
            "files and extended headers are larger",
            {
                for number in 0..<3 {
                    $0.extend(
                        [("SCHILY.xattr.user.\(number)", [UInt8](repeating: 0, count: 65_000))].flatMap { Array(repeating: $0, count: 8) })
                    $0.add("d\(number)/", type: "5")
                }
            }
        ),
        ("ends within a member", { $0.add("a", size: 0o77777777777) }),
        ("checksum is wrong", { $0.bytes += [UInt8](repeating: UInt8(ascii: "7"), count: 512) }),
        ("the mode", { $0.add("a") { $0[100] = 0x38 } }),
        ("the size", { $0.add("a") { $0.replaceSubrange(124..<136, with: [UInt8](repeating: 0xff, count: 12)) } }),
        ("too large", { $0.add("a") { $0.replaceSubrange(124..<136, with: [0x80] + [UInt8](repeating: 0xff, count: 11)) } }),
        (
            "is damaged",
            {
                $0.add("x", type: "x", Array("99 path=a\n".utf8)); $0.add("a", "x")
            }
        ),
        (
            "is damaged",
            {
                $0.add("x", type: "x", Array("-5 path=a\n".utf8)); $0.add("a", "x")
            }
        ),
        (
            "too long",
            {
                $0.add("x", type: "x", [], size: 2 << 20); $0.bytes += [UInt8](repeating: 0, count: 2 << 20)
            }
        ),
        (
            "owner",
            {
                $0.extend([("uid", Array("4294967295".utf8))]); $0.add("a", "x")
            }
        ),
        (
            "not a number",
            {
                $0.extend([("mtime", Array("now".utf8))]); $0.add("a", "x")
            }
        ),
        ("root is not a directory", { $0.add("./", type: "2", link: "etc") }),
        ("after an extended header", { $0.extend([("path", [65])]) }),
    ]

    @Test(arguments: layers.indices) func badLayers(index: Int) throws {
        let (reason, change) = Self.layers[index]
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("harmless", "x")
        change(&tar)
        // Without the end, so that what comes last is what is judged.
        try foreign.index([try foreign.image([try foreign.layer(tar.bytes)])])
        var limits = ImportLimits()
        limits.unpackedBytesMax = 1 << 20
        // Named here where the header itself is right and the contents are not there.
        let wanted = reason == "the mode" ? "mode is not a number" : reason == "the size" ? "has the size -" : reason
        try expectRefusal(foreign, wanted, limits: limits)
    }

    /// What leads out by links of a layer below stays inside; nothing outside is touched.
    @Test func linksDoNotLeadOut() throws {
        let foreign = try ForeignImage()
        let outside = "\(foreign.fixture.path)/outside"
        try Files.makeDirectory(outside)
        try Files.write([1], to: "\(outside)/secret")
        var (below, above) = (TarBuilder(), TarBuilder())
        below.add("door", type: "2", link: outside)
        above.add("door/planted", "x")
        above.add("door/.wh.secret", "")
        try foreign.write([below, above])
        _ = try foreign.load()
        #expect(try Files.names(in: outside) == ["secret"])
        #expect(try foreign.text("\(outside.dropFirst())/planted") == "x")
        try foreign.store.remove(try ImageName("a"))
        try Files.removeTree(foreign.tree)
        // Inside there is such a directory: that is the one that is meant.
        below.add("\(outside.dropFirst())/secret", "inner")
        above.add("door/.wh..wh..opq", "")
        try foreign.write([below, above])
        _ = try foreign.load()
        #expect(try Files.names(in: outside) == ["secret"])
        #expect(try Files.names(in: "\(foreign.tree)\(outside)") == ["planted"])
    }

    @Test func bombsAreStopped() throws {
        var limits = ImportLimits()
        limits.unpackedBytesMax = 1 << 20
        for (command, suffix) in [(["gzip", "-nc"], "+gzip"), (["zstd", "-qc"], "+zstd")] {
            let foreign = try ForeignImage()
            var tar = TarBuilder()
            tar.add("zeros", [UInt8](repeating: 0, count: 8 << 20))
            let stored = try foreign.blob(try foreign.compressed(tar.finished, command), type: ForeignImage.layerType + suffix)
            try foreign.index([try foreign.image([(stored, try foreign.digest(tar.finished))])])
            try expectRefusal(foreign, "unpacks to more than", limits: limits)
        }
        // Many small files, and many layers.
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        for number in 0..<20 { tar.add("f\(number)", "x") }
        try foreign.write([tar])
        limits.entriesMax = 10
        try expectRefusal(foreign, "too many files", limits: limits)
        let layer = try foreign.layer(tar.finished)
        try foreign.index([try foreign.image(Array(repeating: layer, count: 3))])
        limits.layersMax = 2
        try expectRefusal(foreign, "3 layers; 2 are allowed", limits: limits)
    }

    @Test func whatIsNotAsItsDigestSaysIsRefused() throws {
        func foreign(_ change: (ForeignImage, _ layer: (descriptor: String, diff: String)) throws -> Void) throws -> ForeignImage {
            let foreign = try ForeignImage()
            var tar = TarBuilder()
            tar.add("a", "b")
            let layer = try foreign.layer(tar.finished)
            try foreign.index([try foreign.image([layer])])
            try change(foreign, layer)
            return foreign
        }
        let other = "sha256:" + String(repeating: "0", count: 64)
        try expectRefusal(
            try foreign { foreign, layer in
                var bytes = try Files.read(foreign.blobPath(layer.diff), lengthMax: 1 << 20)
                bytes[513] ^= 1
                try Files.write(bytes, to: foreign.blobPath(layer.diff))
            }, "layer 1 has the digest")
        try expectRefusal(try foreign { try Files.write([1], to: $0.blobPath($1.diff)) }, "layer 1 has 1 bytes instead of")
        try expectRefusal(try foreign { try Files.removeTree($0.blobPath($1.diff)) }, "layer 1 is missing")
        try expectRefusal(try foreign { try $0.index([try $0.image([($1.descriptor, other)])]) }, "layer 1, uncompressed, has the digest")
        try expectRefusal(
            try foreign { foreign, _ in try foreign.index([#"{"mediaType":"\#(ForeignImage.manifestType)","digest":"\#(other)","size":5}"#])
            },
            "the manifest is missing")
        for size in [-1, 0, 1 << 40, Int.max] {
            try expectRefusal(
                try foreign { foreign, _ in
                    try foreign.index([#"{"mediaType":"\#(ForeignImage.manifestType)","digest":"\#(other)","size":\#(size)}"#])
                },
                "the manifest would have \(size) bytes")
        }
        // A layer that is cut, and one with something after it.
        for (change, reason) in [({ Array($0.dropLast(5)) }, "cannot be decompressed"), ({ $0 + [1, 2, 3] }, "cannot be decompressed")]
            as [(([UInt8]) -> [UInt8], String)]
        {
            let foreign = try ForeignImage()
            var tar = TarBuilder()
            tar.add("a", "b")
            let bytes = change(try foreign.compressed(tar.finished, ["gzip", "-nc"]))
            let stored = try foreign.blob(bytes, type: ForeignImage.layerType + "+gzip")
            try foreign.index([try foreign.image([(stored, try foreign.digest(tar.finished))])])
            try expectRefusal(foreign, reason)
        }
    }

    /// Texts for index.json, each with what it is refused for.
    static let indexes: [(String, String)] = [
        ("", "index.json is not"), ("null", "index.json is not"), ("[]", "index.json is not"), ("{}", "\"manifests\" is missing"),
        (#"{"manifests":[]}"#, "no image for linux/amd64"), (#"{"manifests":[{}]}"#, "is missing"),
        (#"{"manifests":[{"digest":"md5:00","size":1}]}"#, "is no digest"),
        (#"{"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}"#, "is no digest"),
        (#"{"manifests":[{"digest":"sha256:D","size":1e99}]}"#, "index.json is not"),
        (#"{"manifests":[{"mediaType":"application/x","digest":"sha256:D","size":1}]}"#, "type that is not supported"),
        (
            #"{"manifests":[{"mediaType":"M","digest":"sha256:D","size":1,"platform":{"os":"linux","architecture":"s390x"}}]}"#,
            "no image for"
        ),
        (String(repeating: "[", count: 1 << 20), "index.json is not"),
        (String(repeating: " ", count: ImportLimits.documentBytesMax + 1), "longer than a document may be"),
    ]

    @Test(arguments: indexes.indices) func badIndexes(index: Int) throws {
        let foreign = try ForeignImage()
        let (text, reason) = Self.indexes[index]
        let filled = text.replacing("sha256:D", with: "sha256:" + String(repeating: "d", count: 64))
            .replacing("\"M\"", with: "\"\(ForeignImage.manifestType)\"")
        try Files.write(Array(filled.utf8), to: "\(foreign.path)/index.json")
        try expectRefusal(foreign, reason)
    }

    @Test func otherThingsThatAreNoImages() throws {
        let foreign = try ForeignImage()
        try expectRefusal(foreign, "\"index.json\" is missing")
        try expectRefusal(foreign, "does not exist", suffix: "-not")
        try expectRefusal(
            foreign, "\"oci-layout\" is missing", transport: "oci-archive", suffix: "/../empty.tar", limits: ImportLimits(), empty: true)
        var tar = TarBuilder()
        tar.add("a", "b")
        let layer = try foreign.layer(tar.finished)
        try foreign.index([try foreign.image([layer], architecture: "arm64")])
        try expectRefusal(foreign, "not for linux/amd64")
        try foreign.index([try foreign.image([])])
        try expectRefusal(foreign, "no layers")
        try foreign.index([try foreign.image([(layer.descriptor.replacing("v1.tar", with: "v1.tar+xz"), layer.diff)])])
        try expectRefusal(foreign, "layer of a type that is not supported")
        for config in [#"{"Env":["novalue"]}"#, #"{"Cmd":["a\u0000b"]}"#, #"{"Cmd":"text"}"#, #"{"User":7}"#] {
            try foreign.index([try foreign.image([layer], config: config)])
            try expectRefusal(foreign, "configuration")
        }
        // Indexes within indexes, further than anybody needs.
        var descriptor = try foreign.image([layer])
        for _ in 0..<6 { descriptor = try foreign.blob(Array(#"{"manifests":[\#(descriptor)]}"#.utf8), type: ForeignImage.indexType) }
        try foreign.index([descriptor])
        try expectRefusal(foreign, "too many indexes")
    }

    /// An archive without members.
    private func expectRefusal(
        _ foreign: ForeignImage, _ reason: String, transport: String, suffix: String, limits: ImportLimits, empty: Bool
    ) throws {
        try Files.write([UInt8](repeating: 0, count: 1024), to: "\(foreign.fixture.path)/empty.tar")
        try expectRefusal(foreign, reason, transport: transport, suffix: suffix, limits: limits)
    }

    @Test func referencesAreRead() throws {
        let reference = try ImageReference("docker-archive:/a/b.tar:docker.io/library/Redis:7")
        #expect(reference.path == "/a/b.tar" && reference.tag == "docker.io/library/Redis:7")
        #expect(reference.suggestedName?.description == "redis")
        #expect(try ImageReference("oci:/x/web:1").suggestedName?.description == "web")
        #expect(try ImageReference("oci-archive:web.tar").suggestedName?.description == "web")
        for text in ["", "oci", "oci:", "oci::", "oci:x:", "docker:x", "/x", "oci:\u{0}"] {
            #expect(throws: ImageError.self, "\(text)") { try ImageReference(text) }
        }
    }
}
