/// A function's code as it came: a ZIP archive of which nothing but the structure is read.
///
/// PKWARE's APPNOTE 6.3: the end of the central directory, the directory, and the header before each entry's bytes. The bytes
/// themselves are a stranger's: they are unpacked inside of the machine that is built (`CodeStream`), never on the host. What is no
/// such archive from its first to its last byte is refused, so that no other reader of archives ever has a say.
public struct ZipArchive: Sendable {
    /// The most bytes of all files together (Lambda's limit).
    public static let unpackedBytesMax = 250 << 20
    /// The most files, directories and links.
    public static let entriesMax = 100_000
    /// The longest path, in bytes (`PATH_MAX`).
    public static let pathBytesMax = 4096
    /// The longest target of a symbolic link, in bytes (`PATH_MAX`).
    public static let linkBytesMax = 4095

    /// Why an archive is refused, in words that follow "Cannot use the function's code: ".
    public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// The reason, with the entry it is about.
        public let description: String
    }

    /// What an entry becomes.
    public enum Kind: Hashable, Sendable {
        /// A file.
        case file
        /// A directory.
        case directory
        /// A symbolic link; its bytes are its target.
        case link
    }

    /// One file, directory or link.
    public struct Entry: Hashable, Sendable {
        /// The path below the function's directory: relative, never climbing; any bytes but zero.
        public var path: [UInt8]
        /// What it becomes.
        public var kind: Kind
        /// Permission bits, nine of them.
        public var permissions: Int
        /// When it was changed, seconds since 1970.
        public var modifiedAt: Int64
        /// Whether the bytes are packed (deflate); otherwise they are as they are.
        public var isPacked: Bool
        /// CRC-32 of the unpacked bytes, as the archive says.
        public var checksum: UInt32
        /// Where the bytes are in the archive.
        public var place: Range<Int>
        /// Bytes when unpacked, as the archive says.
        public var unpackedBytes: Int
    }

    /// The whole archive.
    public let bytes: [UInt8]
    /// What is in it, in the order of its directory.
    public let entries: [Entry]

    /// Reads an archive's structure.
    ///
    /// - Throws: `Refusal`.
    public init(_ bytes: [UInt8]) throws(Refusal) {
        self.bytes = bytes
        let directory = try ZipDirectory(bytes)
        var entries: [Entry] = []
        var place = directory.place.lowerBound
        var (unpacked, packed) = (0, 0)
        entries.reserveCapacity(directory.count)
        for _ in 0..<directory.count {
            let (entry, end) = try ZipEntryReader(bytes, directory.place).entry(at: place)
            place = end
            // Bytes that several entries share would unpack to more than a sane archive could hold.
            packed += 30 + entry.place.count
            guard packed <= directory.place.lowerBound else { throw Refusal(description: "its entries overlap") }
            guard entry.unpackedBytes <= ZipArchive.unpackedBytesMax - unpacked else {
                throw Refusal(description: "it has more than \(ZipArchive.unpackedBytesMax >> 20) MiB unpacked")
            }
            unpacked += entry.unpackedBytes
            // The directory itself, which some tools name: it is there.
            if !entry.path.split(separator: UInt8(ascii: "/")).allSatisfy({ $0.elementsEqual([UInt8(ascii: ".")]) }) {
                entries.append(entry)
            }
        }
        guard place == directory.place.upperBound else { throw Refusal(description: "its directory has another length than it says") }
        guard !entries.isEmpty else { throw Refusal(description: "the archive is empty") }
        self.entries = entries
    }
}

/// Little-endian numbers at places that may be anywhere.
struct ZipFields {
    let bytes: [UInt8]

    /// A number of two, four or eight bytes; nil when it is not in the archive, or has no place in an `Int`.
    func number(_ place: Int, _ count: Int) -> Int? {
        guard place >= 0, place <= bytes.count - count else { return nil }
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[place + index]) << UInt64(8 * index) }
        return Int(exactly: value)
    }

    /// Whether a record of a kind begins at a place.
    func isRecord(_ signature: Int, at place: Int) -> Bool { number(place, 4) == signature }

    /// Some bytes; nil when they are not in the archive.
    func slice(_ place: Int, _ count: Int) -> ArraySlice<UInt8>? {
        guard place >= 0, count >= 0, count <= bytes.count, place <= bytes.count - count else { return nil }
        return bytes[place..<(place + count)]
    }
}

/// Where an archive's directory is, and how many entries it has.
struct ZipDirectory {
    let place: Range<Int>
    let count: Int

    private static let endBytes = 22
    private static let commentBytesMax = 65_535
    private static let locatorBytes = 20
    private static let long = (two: 0xffff, four: 0xffff_ffff)

    init(_ bytes: [UInt8]) throws(ZipArchive.Refusal) {
        let fields = ZipFields(bytes: bytes)
        guard fields.isRecord(0x0403_4b50, at: 0) else { throw ZipArchive.Refusal(description: "it is no ZIP archive") }
        guard let end = ZipDirectory.end(fields) else {
            throw ZipArchive.Refusal(description: "it is no whole ZIP archive: it does not end with the end of a directory")
        }
        var limit = end
        var numbers = [fields.number(end + 4, 2), fields.number(end + 6, 2), fields.number(end + 8, 2), fields.number(end + 10, 2)]
        numbers += [fields.number(end + 12, 4), fields.number(end + 16, 4)]
        if fields.isRecord(0x0706_4b50, at: end - ZipDirectory.locatorBytes) {
            let locator = end - ZipDirectory.locatorBytes
            guard let record = fields.number(locator + 8, 8), fields.number(locator + 16, 4) == 1, record < locator,
                fields.isRecord(0x0606_4b50, at: record), fields.number(record + 4, 8) == locator - record - 12
            else { throw ZipArchive.Refusal(description: "its long end of a directory is not where it says") }
            limit = record
            numbers = [fields.number(record + 16, 4), fields.number(record + 20, 4), fields.number(record + 24, 8)]
            numbers += [fields.number(record + 32, 8), fields.number(record + 40, 8), fields.number(record + 48, 8)]
        }
        let known = numbers.compactMap { $0 }
        guard known.count == 6, known[0] == 0, known[1] == 0, known[2] == known[3] else {
            throw ZipArchive.Refusal(description: "it is a part of an archive")
        }
        guard known[3] <= ZipArchive.entriesMax else {
            throw ZipArchive.Refusal(description: "it has more than \(ZipArchive.entriesMax) entries")
        }
        guard known[5] <= limit, known[4] == limit - known[5] else {
            throw ZipArchive.Refusal(description: "its directory is not where it says")
        }
        place = known[5]..<limit
        count = known[3]
    }

    /// The last record, whose comment ends where the archive does.
    private static func end(_ fields: ZipFields) -> Int? {
        let last = fields.bytes.count - endBytes
        guard last >= 0 else { return nil }
        for place in stride(from: last, through: max(0, last - commentBytesMax), by: -1) {
            if fields.isRecord(0x0605_4b50, at: place), fields.number(place + 20, 2) == last - place { return place }
        }
        return nil
    }
}
