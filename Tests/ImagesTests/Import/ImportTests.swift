import CLinux
import Testing

@testable import Images

/// Images that are right.
@Suite(.enabled(if: ForeignImage.isRoot, "SKIPPED: only root can keep the owners of an image's files")) struct ImportTests {
    private static let attribute = Array("user.note".utf8)

    @Test func keepsWhatFilesAre() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("./", type: "5", mode: 0o755)
        tar.add("bin/", type: "5", mode: 0o711, user: 5, group: 6, modified: 999_999_999)
        tar.add("bin/su", Array("program".utf8), mode: 0o4755, user: 7, group: 8)
        tar.add("bin/same", type: "1", link: "bin/su")
        tar.add("bin/link", type: "2", link: "/etc/target")
        tar.add("null", type: "3", mode: 0o666, device: (1, 3))
        tar.add("disk", type: "4", device: (8, 1))
        tar.add("queue", type: "6", mode: 0o620, user: 9)
        tar.extend([
            ("path", Array("deep/\(String(repeating: "n", count: 200))".utf8)), ("uid", Array("70000".utf8)), ("mtime", Array("1.5".utf8)),
        ])
        tar.add("short", "long name")
        tar.add("x", type: "L", Array("gnu/\(String(repeating: "g", count: 150))\u{0}".utf8))
        tar.add("short", "gnu name")
        tar.add("zeros", [UInt8](repeating: 0, count: 100_000) + [1])
        try foreign.write([tar])
        let image = try foreign.load()
        #expect(image.manifest.source?.kind == "oci")
        let su = try foreign.status("bin/su")
        #expect(su.st_mode == 0o104755 && su.st_uid == 7 && su.st_gid == 8 && su.st_mtim.tv_sec == 1_000_000_000 && su.st_nlink == 2)
        #expect(try foreign.status("bin/same").st_ino == su.st_ino)
        let bin = try foreign.status("bin")
        #expect(bin.st_mode == 0o40711 && bin.st_uid == 5 && bin.st_mtim.tv_sec == 999_999_999)
        #expect(try foreign.status("bin/link").st_mode & UInt32(S_IFMT) == UInt32(S_IFLNK))
        #expect(try foreign.status("null").st_mode == 0o20666 && foreign.status("null").st_rdev == 0x103)
        #expect(try foreign.status("disk").st_mode & UInt32(S_IFMT) == UInt32(S_IFBLK))
        #expect(try foreign.status("queue").st_mode == 0o10620)
        let long = try foreign.status("deep/\(String(repeating: "n", count: 200))")
        #expect(long.st_uid == 70_000 && long.st_mtim.tv_nsec == 500_000_000)
        #expect(try foreign.text("gnu/\(String(repeating: "g", count: 150))") == "gnu name")
        let zeros = try foreign.status("zeros")
        #expect(zeros.st_size == 100_001 && zeros.st_blocks * 512 < 50_000)
        #expect(try foreign.text("etc/resolv.conf") == "nameserver 172.30.0.1\n")
        for name in ["dev", "proc", "sys", "run", "tmp"] { #expect(foreign.exists(name), "\(name)") }
        #expect(try foreign.fixture.names("images") == ["a"])
    }

    @Test func whiteoutsHideWhatIsBelowOnly() throws {
        let foreign = try ForeignImage()
        var (below, above) = (TarBuilder(), TarBuilder())
        for name in ["keep", "gone", "dir/old", "dir/sub/old", "opaque/old", "opaque/sub/old", "file"] { below.add(name, "below") }
        below.add("merged", type: "2", link: "dir")
        // The new one stands before its whiteout: it belongs to this layer and stays.
        above.add("opaque/new", "above")
        above.add("opaque/.wh..wh..opq", "")
        above.add(".wh.gone", "")
        above.add("dir/.wh.sub", "")
        above.add("nothing/.wh.there", "")
        above.add(".wh..wh.plnk", "")
        above.add(".wh..wh.aufs/inside", "")
        // Through a link of the layer below, as merged /usr has it.
        above.add("merged/through", "above")
        above.add("file/", type: "5", mode: 0o700)
        above.add("file/inside", "above")
        try foreign.write([below, above])
        _ = try foreign.load()
        #expect(foreign.exists("keep") && !foreign.exists("gone") && foreign.exists("dir/old") && !foreign.exists("dir/sub"))
        #expect(!foreign.exists("opaque/old") && !foreign.exists("opaque/sub") && foreign.exists("opaque/new"))
        #expect(try foreign.text("dir/through") == "above" && foreign.text("file/inside") == "above")
        for name in [".wh.gone", ".wh..wh.plnk", ".wh..wh.aufs", "opaque/.wh..wh..opq", "nothing"] { #expect(!foreign.exists(name)) }
    }

    @Test(arguments: [(["gzip", "-nc"], "+gzip"), (["zstd", "-qc"], "+zstd"), (["cat"], "")])
    func layersAreDecompressed(command: [String], suffix: String) throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("hello", "world")
        let stored = try foreign.blob(try foreign.compressed(tar.finished, command), type: ForeignImage.layerType + suffix)
        try foreign.index([try foreign.image([(stored, try foreign.digest(tar.finished))])])
        _ = try foreign.load()
        #expect(try foreign.text("hello") == "world")
    }

    @Test func findsTheImageOfATag() throws {
        let foreign = try ForeignImage()
        func image(_ text: String, _ tag: String, architecture: String = "amd64") throws -> String {
            var tar = TarBuilder()
            tar.add("which", text)
            let extra =
                #","annotations":{"org.opencontainers.image.ref.name":"\#(tag)"}"#
                + #","platform":{"os":"linux","architecture":"\#(architecture)"}"#
            return try foreign.image([try foreign.layer(tar.finished)], architecture: architecture, extra: extra)
        }
        let inner = #"{"schemaVersion":2,"manifests":[\#(try image("arm", "x", architecture: "arm64")),\#(try image("nested", "x"))]}"#
        let nested = try foreign.blob(
            Array(inner.utf8), type: ForeignImage.indexType, extra: #","annotations":{"org.opencontainers.image.ref.name":"two"}"#)
        try foreign.index([try image("first", "one"), nested])
        _ = try foreign.load("oci", ":two")
        #expect(try foreign.text("which") == "nested")
        #expect { try foreign.load() } throws: { "\($0)".contains("several images; name one of them: \"one\", \"two\"") }
        #expect { try foreign.load("oci", ":three") } throws: { "\($0)".contains("no image \"three\"") }
    }

    @Test func archivesHaveTheSame() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("hello", "world")
        try foreign.write([tar])
        for compression in [["cat"], ["gzip", "-c"]] {
            let plain = try foreign.run(["tar", "-C", foreign.path, "-c", "."])
            try Files.write(try foreign.compressed(plain, compression), to: "\(foreign.path).tar")
            _ = try foreign.load("oci-archive", ".tar")
            #expect(try foreign.text("hello") == "world")
            try Files.removeTree(foreign.tree)
            try foreign.store.remove(try ImageName("a"))
        }
    }

    @Test func dockerSaveIsRead() throws {
        let foreign = try ForeignImage()
        var (one, two) = (TarBuilder(), TarBuilder())
        one.add("hello", "world")
        two.add(".wh.hello", "")
        let diffs = try [one, two, one].map { try foreign.digest($0.finished) }
        let configuration = foreign.configuration(diffs, #"{"Cmd":["/hello"]}"#)
        let file = String(try foreign.digest(configuration).dropFirst(7)) + ".json"
        var archive = TarBuilder()
        archive.add("1/layer.tar", one.finished)
        archive.add("2/layer.tar", try foreign.compressed(two.finished, ["gzip", "-nc"]))
        archive.add("3/layer.tar", type: "2", link: "../1/layer.tar")
        archive.add(file, configuration)
        let entry =
            #"{"Config":"\#(file)","RepoTags":["docker.io/library/hello:latest"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}"#
        archive.add("manifest.json", "[\(entry)]")
        try Files.write(archive.finished, to: "\(foreign.path).tar")
        let image = try foreign.load("docker-archive", ".tar:hello")
        #expect(try foreign.text("hello") == "world")
        #expect(image.manifest.process?.arguments == ["/hello"])
        // A link that leads to itself.
        archive.add("1/layer.tar", type: "2", link: "../3/layer.tar")
        try Files.write(archive.finished, to: "\(foreign.path).tar")
        #expect { try foreign.load("docker-archive", ".tar") } throws: { "\($0)".contains("links lead in a circle") }
    }

    @Test func readsHowTheProgramIsRun() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("a", "b")
        try foreign.write(
            [tar],
            config: #"{"Entrypoint":["/bin/e"],"Cmd":["x","y"],"Env":["A=1","B="],"User":"1:2","WorkingDir":"/srv/w","Labels":null}"#)
        let process = try #require(try foreign.load().manifest.process)
        #expect(process.arguments == ["/bin/e", "x", "y"] && process.environment == ["A=1", "B="])
        #expect(process.user == "1:2" && process.directory == "/srv/w" && foreign.exists("srv/w"))
        #expect(try foreign.store.open(try ImageName("a")).manifest.process == process)
    }

    @Test func theSameImageIsKeptAndAnotherReplacesIt() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("a", "b")
        try foreign.write([tar])
        let first = try foreign.load()
        try Files.removeTree(foreign.tree)
        #expect(try foreign.load().manifest == first.manifest)
        #expect(!foreign.exists(""))
        tar.add("c", "d")
        try foreign.write([tar])
        #expect(try foreign.load().manifest != first.manifest)
        #expect(foreign.exists("c"))
    }
}
