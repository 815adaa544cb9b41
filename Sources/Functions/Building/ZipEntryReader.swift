/// Reads one entry of a ZIP archive: its record in the directory, and the header before its bytes.
struct ZipEntryReader {
    private static let recordBytes = 46
    private static let headerBytes = 30
    private static let slash = UInt8(ascii: "/")
    /// Systems whose attributes have a mode: Unix, macOS.
    private static let unixSystems = [3, 19]

    private let fields: ZipFields
    private let directory: Range<Int>

    init(_ bytes: [UInt8], _ directory: Range<Int>) {
        fields = ZipFields(bytes: bytes)
        self.directory = directory
    }

    /// The entry whose record begins at a place, and where the next one begins.
    func entry(at place: Int) throws(ZipArchive.Refusal) -> (ZipArchive.Entry, Int) {
        guard fields.isRecord(0x0201_4b50, at: place), let made = fields.number(place + 4, 2), let flags = fields.number(place + 8, 2),
            let method = fields.number(place + 10, 2), let time = fields.number(place + 12, 2), let date = fields.number(place + 14, 2),
            let checksum = fields.number(place + 16, 4), let nameBytes = fields.number(place + 28, 2),
            let extraBytes = fields.number(place + 30, 2), let commentBytes = fields.number(place + 32, 2),
            let attributes = fields.number(place + 38, 4),
            let path = fields.slice(place + ZipEntryReader.recordBytes, nameBytes),
            let extra = fields.slice(path.endIndex, extraBytes), extra.endIndex + commentBytes <= directory.upperBound
        else { throw ZipArchive.Refusal(description: "its directory breaks off") }
        let name = ZipEntryReader.shown(path)
        try check(path, name)
        guard flags & 0x2041 == 0 else { throw ZipArchive.Refusal(description: "\"\(name)\" is encrypted") }
        guard method == 0 || method == 8 else {
            throw ZipArchive.Refusal(description: "\"\(name)\" is packed in a way (\(method)) that is neither deflate nor none")
        }
        let (packed, unpacked, header) = try lengths(place, extra, name)
        guard method == 8 || packed == unpacked else { throw ZipArchive.Refusal(description: "\"\(name)\" has two lengths") }
        let (kind, permissions) = try self.kind(made, attributes, path, name)
        if kind == .link, !(1...ZipArchive.linkBytesMax).contains(unpacked) || path.contains(10) {
            throw ZipArchive.Refusal(description: "the link \"\(name)\" is none that Linux could have")
        }
        let entry = ZipArchive.Entry(
            path: Array(path), kind: kind, permissions: permissions,
            modifiedAt: ZipEntryReader.time(extra, fields) ?? ZipEntryReader.time(date: date, time: time), isPacked: method == 8,
            checksum: UInt32(truncatingIfNeeded: checksum), place: try contents(header, path, packed, name), unpackedBytes: unpacked)
        return (entry, extra.endIndex + commentBytes)
    }

    /// A path never climbs above where it starts.
    private func check(_ path: ArraySlice<UInt8>, _ name: String) throws(ZipArchive.Refusal) {
        guard !path.isEmpty, path.count <= ZipArchive.pathBytesMax, !path.contains(0) else {
            throw ZipArchive.Refusal(description: "\"\(name)\" is no path")
        }
        let climbs = path.split(separator: ZipEntryReader.slash).contains { $0.elementsEqual("..".utf8) }
        guard path.first != ZipEntryReader.slash, !climbs else {
            throw ZipArchive.Refusal(description: "\"\(name)\" leads out of the function's directory")
        }
    }

    /// Lengths and the header's place, of which the long ones are in an extra field.
    private func lengths(
        _ place: Int, _ extra: ArraySlice<UInt8>, _ name: String
    ) throws(ZipArchive.Refusal) -> (packed: Int, unpacked: Int, header: Int) {
        var long = ZipEntryReader.field(1, of: extra, fields)
        func number(_ offset: Int) -> Int? {
            let short = fields.number(place + offset, 4)
            guard short == 0xffff_ffff, let field = long else { return short }
            guard field.count >= 8 else { return nil }
            long = field.dropFirst(8)
            return fields.number(field.startIndex, 8)
        }
        guard let unpacked = number(24), let packed = number(20), let header = number(42) else {
            throw ZipArchive.Refusal(description: "\"\(name)\" has no length")
        }
        return (packed, unpacked, header)
    }

    /// Where an entry's bytes are; their header must be of the same name.
    private func contents(
        _ header: Int, _ path: ArraySlice<UInt8>, _ packed: Int, _ name: String
    ) throws(ZipArchive.Refusal) -> Range<Int> {
        guard header < directory.lowerBound, fields.isRecord(0x0403_4b50, at: header), let nameBytes = fields.number(header + 26, 2),
            let extraBytes = fields.number(header + 28, 2),
            fields.slice(header + ZipEntryReader.headerBytes, nameBytes)?.elementsEqual(path) == true
        else { throw ZipArchive.Refusal(description: "\"\(name)\" is not where the directory says") }
        let start = header + ZipEntryReader.headerBytes + nameBytes + extraBytes
        guard start <= directory.lowerBound, packed <= directory.lowerBound - start else {
            throw ZipArchive.Refusal(description: "\"\(name)\" breaks off")
        }
        return start..<(start + packed)
    }

    private func kind(
        _ made: Int, _ attributes: Int, _ path: ArraySlice<UInt8>, _ name: String
    ) throws(ZipArchive.Refusal) -> (ZipArchive.Kind, Int) {
        let isFolder = path.last == ZipEntryReader.slash
        let mode = ZipEntryReader.unixSystems.contains(made >> 8) ? attributes >> 16 : 0
        let kind: ZipArchive.Kind
        switch mode & 0o170000 {
        case 0: kind = isFolder || attributes & 0x10 != 0 ? .directory : .file
        case 0o100000 where !isFolder: kind = .file
        case 0o040000: kind = .directory
        case 0o120000 where !isFolder: kind = .link
        default: throw ZipArchive.Refusal(description: "\"\(name)\" is neither a file nor a directory nor a link")
        }
        let permissions = mode & 0o777
        guard permissions != 0 else { return (kind, kind == .directory ? 0o755 : 0o644) }
        // The code is root's and runs as another user: what its owner may read and run, that one may, too.
        let owners = permissions & 0o500
        return (kind, permissions | owners >> 3 | owners >> 6)
    }

    /// An extra field; nil when there is none of its kind.
    private static func field(_ kind: Int, of extra: ArraySlice<UInt8>, _ fields: ZipFields) -> ArraySlice<UInt8>? {
        var place = extra.startIndex
        while let found = fields.number(place, 2), let length = fields.number(place + 2, 2), place + 4 + length <= extra.endIndex {
            if found == kind { return extra[(place + 4)..<(place + 4 + length)] }
            place += 4 + length
        }
        return nil
    }

    /// The time of Info-ZIP's extra field, which Python's compiled files rely on.
    private static func time(_ extra: ArraySlice<UInt8>, _ fields: ZipFields) -> Int64? {
        guard let field = field(0x5455, of: extra, fields), field.count >= 5, field.first.map({ $0 & 1 == 1 }) == true else { return nil }
        return fields.number(field.startIndex + 1, 4).map { Int64(UInt32(truncatingIfNeeded: $0)) }
    }

    /// The time of the directory's own fields, taken for UTC.
    private static func time(date: Int, time: Int) -> Int64 {
        let days = WallClock.days(year: 1980 + date >> 9, month: max(1, min(12, date >> 5 & 15)), day: max(1, date & 31))
        return Int64(days) * 86_400 + Int64(time >> 11 * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2)
    }

    /// A name as a message shows it: short, on one line.
    private static func shown(_ path: ArraySlice<UInt8>) -> String {
        let text = String(decoding: path.prefix(120), as: UTF8.self).unicodeScalars
        return String(String.UnicodeScalarView(text.map { $0.value < 32 || (0x7f...0x9f).contains($0.value) ? "?" : $0 }))
    }
}
