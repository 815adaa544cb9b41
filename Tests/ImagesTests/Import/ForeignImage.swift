import CLinux
import FoundationEssentials
import Linux

@testable import Images

/// An image layout written by hand below a fixture, and what it becomes.
///
/// The recipe that would make the ext4 file keeps the tree instead, so that tests can look at it.
struct ForeignImage {
    let fixture: Fixture
    var path: String { "\(fixture.path)/foreign" }
    /// What was unpacked.
    var tree: String { "\(fixture.path)/tree" }

    static let layerType = "application/vnd.oci.image.layer.v1.tar"
    static let manifestType = "application/vnd.oci.image.manifest.v1+json"
    static let indexType = "application/vnd.oci.image.index.v1+json"

    /// Only root can give files to others.
    static let isRoot = geteuid() == 0

    init() throws {
        fixture = try Fixture()
        try Files.makeDirectory("\(path)/blobs/sha256")
        try Files.write(Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8), to: "\(path)/oci-layout")
    }

    var store: ImageStore {
        let script = "set -eu\ncp -a \"$1\" '\(tree)'\ntruncate -s 8192 \"$2\"\n"
        return ImageStore(
            dataPath: fixture.path,
            recipes: Recipes(files: [
                "apt.sh": [], "import/make-root.sh": Array(script.utf8), "confined.sh": Recipes.embedded.files["confined.sh"] ?? [],
            ]))
    }

    func run(_ command: [String], input: String = "/dev/null") throws -> [UInt8] {
        let (output, log) = ("\(fixture.path)/output", "\(fixture.path)/run.log")
        guard try ChildProcess(command: command, input: input, output: output, log: log).run() == .exited(0) else {
            throw ImportRefusal("\(command) failed")
        }
        return try Files.read(output, lengthMax: 1 << 28)
    }

    func digest(_ bytes: [UInt8]) throws -> String {
        try Files.write(bytes, to: "\(fixture.path)/hashed")
        return "sha256:" + String(decoding: try run(["sha256sum", "\(fixture.path)/hashed"]).prefix(64), as: UTF8.self)
    }

    func compressed(_ bytes: [UInt8], _ command: [String]) throws -> [UInt8] {
        try Files.write(bytes, to: "\(fixture.path)/plain")
        return try run(command, input: "\(fixture.path)/plain")
    }

    func blobPath(_ digest: String) -> String { "\(path)/blobs/sha256/\(digest.dropFirst(7))" }

    /// Writes a blob; returns its descriptor.
    @discardableResult
    func blob(_ bytes: [UInt8], type: String, extra: String = "") throws -> String {
        let digest = try digest(bytes)
        try Files.write(bytes, to: blobPath(digest))
        return #"{"mediaType":"\#(type)","digest":"\#(digest)","size":\#(bytes.count)\#(extra)}"#
    }

    func configuration(_ diffs: [String], _ config: String = "{}", architecture: String = "amd64") -> [UInt8] {
        let list = diffs.map { "\"\($0)\"" }.joined(separator: ",")
        return Array(
            #"{"architecture":"\#(architecture)","os":"linux","created":"2024-01-02T03:04:05Z","config":\#(config),"#.utf8)
            + Array(#""rootfs":{"type":"layers","diff_ids":[\#(list)]}}"#.utf8)
    }

    /// Writes configuration and manifest of layers; returns the manifest's descriptor.
    func image(_ layers: [(descriptor: String, diff: String)], config: String = "{}", architecture: String = "amd64", extra: String = "")
        throws -> String
    {
        let config = try blob(
            configuration(layers.map(\.diff), config, architecture: architecture), type: "application/vnd.oci.image.config.v1+json")
        let list = layers.map(\.descriptor).joined(separator: ",")
        let manifest = #"{"schemaVersion":2,"config":\#(config),"layers":[\#(list)]}"#
        return try blob(Array(manifest.utf8), type: Self.manifestType, extra: extra)
    }

    /// An uncompressed layer.
    func layer(_ tar: [UInt8]) throws -> (descriptor: String, diff: String) {
        (try blob(tar, type: Self.layerType), try digest(tar))
    }

    func index(_ descriptors: [String]) throws {
        let text = #"{"schemaVersion":2,"manifests":[\#(descriptors.joined(separator: ","))]}"#
        try Files.write(Array(text.utf8), to: "\(path)/index.json")
    }

    /// A layout of one image with these layers.
    func write(_ layers: [TarBuilder], config: String = "{}") throws {
        try index([try image(try layers.map { try layer($0.finished) }, config: config)])
    }

    func load(_ transport: String = "oci", _ suffix: String = "", limits: ImportLimits = ImportLimits()) throws -> Image {
        try store.importImage(
            try ImageReference("\(transport):\(path)\(suffix)"), as: try ImageName("a"), limits: limits, progress: silent)
    }

    func text(_ file: String) throws -> String { String(decoding: try Files.read("\(tree)/\(file)", lengthMax: 1 << 20), as: UTF8.self) }
    func status(_ file: String) throws -> stat {
        var status = stat()
        guard lstat("\(tree)/\(file)", &status) == 0 else { throw Errno.noEntry }
        return status
    }
    func exists(_ file: String) -> Bool { Files.exists("\(tree)/\(file)") }
}
