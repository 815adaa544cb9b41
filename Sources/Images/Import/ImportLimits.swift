internal import Linux

/// How much of a foreign image is read and written at most: what is above is refused before it is written.
public struct ImportLimits: Sendable {
    /// Bytes of files and extended headers an image may unpack to, over all its layers: 32 GiB unless said otherwise.
    public var unpackedBytesMax = 32 << 30
    /// Files, directories and links over all layers.
    public var entriesMax = 1_000_000
    /// Layers of an image.
    public var layersMax = 256

    /// The usual limits.
    public init() {}

    /// Bytes of a JSON document: index, manifest, configuration.
    static let documentBytesMax = 4 << 20
    /// Indexes within indexes.
    static let indexDepthMax = 4
    /// Links from one member of an archive to another.
    static let memberLinksMax = 8
    /// Members of an archive.
    static let membersMax = 10_000
    /// Bytes of a path in a layer, and of the directory it leads to.
    static let pathBytesMax = 2048
    /// Directories within directories.
    static let depthMax = 256
    /// Bytes of a file's name, the limit of ext4.
    static let nameBytesMax = 255
    /// Bytes of a symbolic link's target, the limit of Linux.
    static let linkBytesMax = 4095
    /// Symbolic links that one path may lead through, the limit of Linux.
    static let linksMax = 40
    /// Bytes of the extended headers of one entry, all that is in memory of an archive at a time.
    static let extensionBytesMax = 1 << 20
    /// Bytes of one extended attribute's value, the limit of Linux.
    static let attributeBytesMax = 64 << 10
    /// Pieces of a sparse file.
    static let piecesMax = 10_000
    /// Extended attributes of one entry.
    static let attributesMax = 256
    /// Bytes of the extended attributes of one file that are kept: a block of ext4, less its header.
    static let attributeBytesKept = 4000
    /// Seconds of processor time a decompression may take.
    static let decompressionSecondsMax = 1800
    /// Words of a command, variables of an environment, labels and ports.
    static let listEntriesMax = 1024
}

/// Why a foreign image is not accepted, in words that follow "Cannot import SOURCE: ".
struct ImportRefusal: Error {
    let reason: String
    /// What happened here, where it is not the image's fault.
    var cause: ImageError?

    init(_ reason: String) { self.reason = reason }

    init(_ error: SystemError) {
        reason = "\(error)"
        if error.errno == .noSpace { cause = .system(error) }
    }

    init(_ error: ImageError) {
        reason = "\(error)"
        cause = error
    }

    /// Runs system calls; their errors become reasons.
    static func of<Result: ~Copyable>(_ body: () throws(SystemError) -> Result) throws(ImportRefusal) -> Result {
        do throws(SystemError) { return try body() } catch { throw ImportRefusal(error) }
    }
}

/// Foreign text in a message: bounded, and safe to print.
func quoted(_ text: String) -> String {
    let lengthMax = 80
    let shown = String(text.unicodeScalars.prefix(lengthMax)).visibleLine
    return "\"\(shown)\(text.unicodeScalars.dropFirst(lengthMax).isEmpty ? "" : "...")\""
}

/// Foreign bytes in a message, for example a path.
func quoted(_ bytes: some Sequence<UInt8>) -> String { quoted(String(decoding: Array(bytes.prefix(512)), as: UTF8.self)) }
