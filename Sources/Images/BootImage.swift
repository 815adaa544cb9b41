/// Why a file is not a boot image that can be unpacked.
public enum BootImageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The file ends before the field or range named.
    case truncated(String)
    /// No "HdrS" at 0x202 or no boot flag: not an x86 boot image at all.
    case notABootImage
    /// The boot protocol is older than 2.08, which has no payload fields.
    case oldProtocol(UInt16)
    /// The compression is none that is known; its first bytes.
    case unknownCompression([UInt8])
    /// The payload says its unpacked size is outside what a kernel can have.
    case implausibleSize(UInt32)
    /// The tool for the compression failed or gave another size than the payload says.
    case decompressionFailed(tool: String, reason: String)
    /// What came out is not a 64-bit x86 ELF file.
    case notAnELF

    /// What is wrong, in words.
    public var description: String {
        switch self {
        case .truncated(let what): "the file is truncated: it ends before \(what)"
        case .notABootImage: "it is not an x86 boot image (no HdrS signature)"
        case .oldProtocol(let version):
            "its boot protocol \(version >> 8).\(String(version & 0xff, radix: 16)) is too old to say where the kernel is (2.08 is needed)"
        case .unknownCompression(let bytes):
            "its compression is unknown (starts with \(bytes.map { String($0, radix: 16) }.joined(separator: " ")))"
        case .implausibleSize(let size): "it claims to unpack to \(size) bytes, which no kernel has"
        case .decompressionFailed(let tool, let reason): "\(tool) failed: \(reason)"
        case .notAnELF: "what it unpacks to is not a 64-bit x86 ELF file"
        }
    }
}

/// Where the compressed kernel is inside a bzImage, as the boot protocol says (Linux, Documentation/x86/boot.rst).
public struct BootImage: Hashable, Sendable {
    /// How the kernel is compressed.
    public enum Compression: String, CaseIterable, Sendable {
        case gzip, bzip2, lzma, xz, lzop, lz4, zstd

        /// The program and arguments that unpack standard input to standard output.
        public var command: [String] {
            switch self {
            case .lzma: ["xz", "--format=lzma", "-dc"]
            case .lzop: ["lzop", "-dc"]
            default: [rawValue, "-dc"]
            }
        }

        /// What the payload starts with.
        var magic: [UInt8] {
            switch self {
            case .gzip: [0x1f, 0x8b]
            case .bzip2: [0x42, 0x5a, 0x68]
            case .lzma: [0x5d, 0x00, 0x00]
            case .xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]
            case .lzop: [0x89, 0x4c, 0x5a, 0x4f]
            case .lz4: [0x02, 0x21, 0x4c, 0x18]  // the legacy frame
            case .zstd: [0x28, 0xb5, 0x2f, 0xfd]
            }
        }
    }

    /// The largest boot image that is read, in bytes.
    public static let fileSizeMax = 256 << 20
    /// The sizes an unpacked kernel may have, in bytes.
    public static let unpackedSizes = (1 << 20)...(1 << 30)

    /// The compressed bytes within the file, ready for the tool (without the size that the build appends).
    public let payload: Range<Int>
    /// How they are compressed.
    public let compression: Compression
    /// What they unpack to, in bytes.
    public let unpackedSize: Int

    private enum Offset {
        static let setupSectors = 0x1f1
        static let bootFlag = 0x1fe
        static let signature = 0x202
        static let version = 0x206
        static let payloadOffset = 0x248
        static let payloadLength = 0x24c
    }
    private static let sectorSize = 512
    /// The kernel's build appends the unpacked size, four bytes, to every payload (for gzip it is part of the format).
    private static let sizeFieldLength = 4

    /// Finds the payload.
    ///
    /// - Throws: `BootImageError` for anything that is not a complete boot image of a known kind.
    public init(parsing file: [UInt8]) throws(BootImageError) {
        func read<Value: FixedWidthInteger>(_: Value.Type, at offset: Int, _ what: String) throws(BootImageError) -> Value {
            guard offset >= 0, offset <= file.count - Value.bitWidth / 8 else { throw .truncated(what) }
            return (0..<Value.bitWidth / 8).reduce(0) { $0 | Value(file[offset + $1]) << ($1 * 8) }
        }
        guard try read(UInt32.self, at: Offset.signature, "the boot header") == 0x5372_6448,
            try read(UInt16.self, at: Offset.bootFlag, "the boot header") == 0xaa55
        else { throw .notABootImage }
        let version = try read(UInt16.self, at: Offset.version, "the protocol version")
        guard version >= 0x208 else { throw .oldProtocol(version) }

        let sectors = Int(file[Offset.setupSectors])
        let protectedMode = ((sectors == 0 ? 4 : sectors) + 1) * Self.sectorSize
        // Two 32-bit numbers and a small one: the sum cannot overflow 64 bits.
        let start = protectedMode + Int(try read(UInt32.self, at: Offset.payloadOffset, "the payload's offset"))
        let length = Int(try read(UInt32.self, at: Offset.payloadLength, "the payload's length"))
        guard length > Self.sizeFieldLength, start + length <= file.count else { throw .truncated("the compressed kernel's end") }

        let head = file[start..<start + min(length, 6)]
        guard let compression = Compression.allCases.first(where: { head.starts(with: $0.magic) }) else {
            throw .unknownCompression(Array(head))
        }
        let end = start + length
        let size = try read(UInt32.self, at: end - Self.sizeFieldLength, "the unpacked size")
        guard Self.unpackedSizes.contains(Int(size)) else { throw .implausibleSize(size) }
        payload = start..<(compression == .gzip ? end : end - Self.sizeFieldLength)
        self.compression = compression
        unpackedSize = Int(size)
    }
}
