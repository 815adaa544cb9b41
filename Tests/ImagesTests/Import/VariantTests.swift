import Testing

@testable import Images

/// Which image of several is taken, and how a configuration is found.
@Suite(.enabled(if: ForeignImage.isRoot, "SKIPPED: only root can keep the owners of an image's files")) struct VariantTests {
    private static let flags = [
        "flags\t\t: fpu sse sse2", "flags : cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3",
        "flags : cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
        "flags : cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe xsave "
            + "avx512f avx512bw avx512cd avx512dq avx512vl",
    ]

    @Test func levelsOfProcessors() {
        #expect(Self.flags.map { ProcessorLevel(description: "processor : 0\n\($0)\nbugs :\n") } == [.v1, .v2, .v3, .v4])
        // A level without the one below it is none.
        #expect(ProcessorLevel(description: "flags : avx2 avx512f") == .v1)
        #expect(ProcessorLevel(description: "") == .v1)
        #expect(ProcessorLevel(variant: nil) == .v1 && ProcessorLevel(variant: "v3") == .v3 && ProcessorLevel(variant: "v9") == nil)
        #expect(ProcessorLevel.host >= .v1)
    }

    /// The digest of the manifest that is chosen.
    private func chosen(_ foreign: ForeignImage, _ tag: String?, _ processor: ProcessorLevel) throws -> String {
        let planner = ImagePlanner(
            place: BlobDirectory(path: foreign.path), limits: ImportLimits(), processor: processor,
            verified: { (blob) throws(ImportRefusal) in blob.bytes }, digest: { (_) throws(ImportRefusal) in throw ImportRefusal("unused") }
        )
        do { return try planner.layout(tag: tag).digest.description } catch { return error.reason }
    }

    private func image(_ foreign: ForeignImage, _ text: String, _ platform: String, tag: String? = nil) throws -> String {
        var tar = TarBuilder()
        tar.add("which", text)
        let name = tag.map { #","annotations":{"org.opencontainers.image.ref.name":"\#($0)"}"# } ?? ""
        return try foreign.image(
            [try foreign.layer(tar.finished)], extra: #","platform":{"os":"linux","architecture":"amd64"\#(platform)}\#(name)"#)
    }

    private func digest(_ descriptor: String) -> String {
        descriptor.split(separator: "\"").first { $0.hasPrefix("sha256:") }.map(String.init) ?? ""
    }

    /// An index of variants, as AlmaLinux has it: the best that the processor runs, the first of equals.
    @Test(arguments: [false, true]) func theBestVariantIsTaken(isNested: Bool) throws {
        let foreign = try ForeignImage()
        let tag = isNested ? nil : "10"
        let images = [
            try image(foreign, "none", "", tag: tag), try image(foreign, "v2", #","variant":"v2""#, tag: tag),
            try image(foreign, "v3", #","variant":"v3""#, tag: tag), try image(foreign, "v3 again", #","variant":"v3""#, tag: tag),
            try image(foreign, "unknown", #","variant":"v9""#, tag: tag),
        ]
        if isNested {
            let inner = #"{"schemaVersion":2,"manifests":[\#(images.joined(separator: ","))]}"#
            try foreign.index([
                try foreign.blob(
                    Array(inner.utf8), type: ForeignImage.indexType, extra: #","annotations":{"org.opencontainers.image.ref.name":"10"}"#)
            ])
        } else {
            try foreign.index(images)
        }
        for tag in ["10", nil] {
            #expect(try chosen(foreign, tag, .v1) == digest(images[0]))
            #expect(try chosen(foreign, tag, .v2) == digest(images[1]))
            #expect(try chosen(foreign, tag, .v3) == digest(images[2]))
            #expect(try chosen(foreign, tag, .v4) == digest(images[2]))
        }
    }

    @Test func whatTheProcessorCannotRunIsNamed() throws {
        let foreign = try ForeignImage()
        try foreign.index([try image(foreign, "new", #","variant":"v4""#)])
        #expect(try chosen(foreign, nil, .v3).contains("another level, this one is v3"))
        // Two images without a name are no variants of one.
        try foreign.index([try image(foreign, "one", ""), try image(foreign, "two", "")])
        #expect(try chosen(foreign, nil, .v3).contains("several images"))
    }

    /// The configuration is the file that the manifest names; its name is checked where it is a digest.
    @Test(arguments: ["sha256:D", "D", "D.json", "blobs/sha256/D", "config.json", "c/onfig"])
    func configurationsOfAnyName(pattern: String) throws {
        let foreign = try ForeignImage()
        var layer = TarBuilder()
        layer.add("hello", "world")
        let configuration = foreign.configuration([try foreign.digest(layer.finished)], #"{"Cmd":["/hello"]}"#)
        let digest = String(try foreign.digest(configuration).dropFirst(7))
        func load(_ digest: String) throws -> Image {
            let file = pattern.replacing("D", with: digest)
            var archive = TarBuilder()
            archive.add("0123.tar.gz", try foreign.compressed(layer.finished, ["gzip", "-nc"]))
            archive.add(file, configuration)
            archive.add("manifest.json", #"[{"Config":"\#(file)","RepoTags":["a:1"],"Layers":["0123.tar.gz"]}]"#)
            try Files.write(archive.finished, to: "\(foreign.path).tar")
            return try foreign.load("docker-archive", ".tar")
        }
        let image = try load(digest)
        #expect(image.manifest.source?.digest == "sha256:\(digest)" && image.manifest.process?.arguments == ["/hello"])
        guard pattern.contains("D") else { return }
        #expect { try load(String(repeating: "0", count: 64)) } throws: { "\($0)".contains("the configuration has the digest") }
    }
}
