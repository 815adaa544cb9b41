/// An archive's entries as a tar stream packed by gzip, made without unpacking a byte.
///
/// gzip's format is a row of members, each a deflate stream with the CRC-32 and the length of what comes out of it; ZIP keeps just the
/// same of each entry. So an entry's packed bytes become a member as they are, and what tar has around them are members that are not
/// packed. Any guest that has `gzip` and `tar` unpacks it, whatever else its image holds, and `gzip` finds entries that are not
/// what the archive says.
public struct CodeStream: Sendable {
    private static let blockBytes = 512
    private static let nameBytesMax = 100
    /// Of a block of a deflate stream that is not packed.
    private static let plainBytesMax = 65_535

    /// The packed stream.
    public private(set) var bytes: [UInt8] = []
    /// Bytes of the tar stream in it.
    public private(set) var unpackedBytes = 0
    /// Symbolic links: their paths, a line each; they are files that hold the link's target so far.
    public private(set) var links: [UInt8] = []
    /// Bytes of the tar stream that belong before the next entry's contents.
    private var plain: [UInt8] = []

    /// Makes the stream of an archive.
    public init(_ archive: ZipArchive) {
        bytes.reserveCapacity(archive.bytes.count + 600 * archive.entries.count)
        for entry in archive.entries {
            addHeader(entry)
            guard entry.kind != .directory, entry.unpackedBytes > 0 else { continue }
            endPlain()
            let contents = archive.bytes[entry.place]
            addMember(entry.isPacked ? contents : CodeStream.unpacked(contents)[...], entry.checksum, entry.unpackedBytes)
            plain += [UInt8](
                repeating: 0, count: (CodeStream.blockBytes - entry.unpackedBytes % CodeStream.blockBytes) % CodeStream.blockBytes)
        }
        plain += [UInt8](repeating: 0, count: 2 * CodeStream.blockBytes)
        endPlain()
    }

    /// Adds an entry's header, and before it its name when that is long (GNU's way, which every `tar` knows).
    private mutating func addHeader(_ entry: ZipArchive.Entry) {
        let name = Array("./".utf8) + entry.path
        if name.count > CodeStream.nameBytesMax {
            plain += CodeStream.header(Array("././@LongLink".utf8), "L", 0o644, name.count + 1, 0)
            plain += name
            plain += [UInt8](repeating: 0, count: CodeStream.blockBytes - name.count % CodeStream.blockBytes)
        }
        let isFolder = entry.kind == .directory
        plain += CodeStream.header(
            Array(name.prefix(CodeStream.nameBytesMax)), isFolder ? "5" : "0", entry.permissions, isFolder ? 0 : entry.unpackedBytes,
            entry.modifiedAt)
        if entry.kind == .link { links += entry.path + [10] }
    }

    private static func header(_ name: [UInt8], _ type: Character, _ mode: Int, _ size: Int, _ time: Int64) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: blockBytes)
        func put(_ bytes: some Collection<UInt8>, _ place: Int) { block.replaceSubrange(place..<(place + bytes.count), with: bytes) }
        func octal(_ value: Int, _ digits: Int) -> [UInt8] {
            let text = String(value, radix: 8)
            return Array((String(repeating: "0", count: max(0, digits - text.utf8.count)) + text).utf8)
        }
        put(name, 0)
        put(octal(mode, 7), 100)
        put(octal(0, 7), 108)
        put(octal(0, 7), 116)
        put(octal(size, 11), 124)
        put(octal(Int(time), 11), 136)
        put(repeatElement(32, count: 8), 148)
        block[156] = type.asciiValue ?? 0
        put("ustar  ".utf8, 257)
        put(octal(block.reduce(0) { $0 + Int($1) }, 6) + [0, 32], 148)
        return block
    }

    private mutating func endPlain() {
        addMember(CodeStream.unpacked(plain[...])[...], CRC32.gzip.checksum(plain), plain.count)
        plain.removeAll(keepingCapacity: true)
    }

    /// Adds a member of gzip (RFC 1952).
    private mutating func addMember(_ contents: ArraySlice<UInt8>, _ checksum: UInt32, _ length: Int) {
        bytes += [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]
        bytes += contents
        for number in [checksum, UInt32(truncatingIfNeeded: length)] { withUnsafeBytes(of: number.littleEndian) { bytes += $0 } }
        unpackedBytes += length
    }

    /// Bytes as a deflate stream that does not pack them (RFC 1951, 3.2.4).
    private static func unpacked(_ contents: ArraySlice<UInt8>) -> [UInt8] {
        var stream: [UInt8] = []
        stream.reserveCapacity(contents.count + 5 * (contents.count / plainBytesMax + 1))
        var rest = contents
        repeat {
            let part = rest.prefix(plainBytesMax)
            rest = rest.dropFirst(part.count)
            let (low, high) = (UInt8(part.count & 255), UInt8(part.count >> 8))
            stream += [rest.isEmpty ? 1 : 0, low, high, ~low, ~high]
            stream += part
        } while !rest.isEmpty
        return stream
    }
}
