/// Bytes that can be read at any place: a file, a part of one, or memory.
protocol ByteSource {
    /// How many there are.
    var count: Int { get }

    /// Reads exactly `count` bytes.
    func read(at offset: Int, count: Int) throws(ImportRefusal) -> [UInt8]
}

/// A member of a tar archive, its extended headers applied.
struct TarEntry: Equatable {
    enum Kind: Equatable { case regular, hardLink, symbolicLink, characterDevice, blockDevice, directory, fifo }

    var kind: Kind
    var path: [UInt8]
    var link: [UInt8]
    var mode: UInt32
    var user: UInt32
    var group: UInt32
    /// Bytes of contents, holes among them; zero unless it is a regular file.
    var size: Int
    /// Of a sparse file: what is stored, one piece behind the other; nil where all is.
    var sparse: SparseMap?
    /// Bytes in the archive.
    var stored: Int { sparse?.stored ?? size }
    /// Where in the archive the contents are.
    var offset: Int
    /// Seconds since 1970.
    var modified: Int64
    var nanoseconds: UInt32 = 0
    var deviceMajor: UInt32
    var deviceMinor: UInt32
    var attributes = TarAttributes()
}

/// The extended attributes of a member, as far as they are kept.
struct TarAttributes: Equatable {
    /// An extended attribute.
    struct Attribute: Equatable {
        let name: [UInt8]
        let value: [UInt8]
    }

    /// In the order of the archive.
    private(set) var kept: [Attribute] = []
    /// How many were left out.
    private(set) var skipped = 0
    private var bytes = 0
    /// What the attribute's own entry takes in ext4.
    private static let entryBytes = 24

    /// Whether there is room for another one.
    var isFull: Bool { kept.count + skipped >= ImportLimits.attributesMax }

    /// Keeps capabilities and what users set, as long as ext4 has room for them; labels of security modules and marks of union file systems
    /// mean nothing in another machine.
    mutating func add(_ name: [UInt8], _ value: ArraySlice<UInt8>) {
        let size = Self.entryBytes + name.count + value.count
        guard name.elementsEqual("security.capability".utf8) || name.starts(with: "user.".utf8),
            size <= ImportLimits.attributeBytesKept - bytes
        else { return skipped += 1 }
        bytes += size
        kept.append(Attribute(name: name, value: Array(value)))
    }
}

/// Walks over the members of an uncompressed tar archive.
///
/// It reads ustar, the extended headers of POSIX.1-2001 (pax), GNU's long names and sparse members. Invariants: an entry's contents lie
/// inside the archive; every number was checked.
struct TarReader<Source: ByteSource> {
    private let source: Source
    private var position = 0
    private var global: [TarExtension: [UInt8]] = [:]
    /// Bytes of all extended headers so far.
    private(set) var extensionBytes = 0

    init(_ source: Source) { self.source = source }

    /// The next member; nil at the end.
    mutating func next() throws(ImportRefusal) -> TarEntry? {
        var extended: [TarExtension: [UInt8]] = [:]
        var attributes = TarAttributes()
        var ownBytes = 0
        while true {
            // An archive without the blocks of zeros at its end is complete all the same.
            guard position < source.count else {
                guard extended.isEmpty else { throw ImportRefusal("the archive ends after an extended header") }
                return nil
            }
            guard source.count - position >= TarHeader.blockBytes else { throw ImportRefusal("the archive ends within a header") }
            guard let header = try TarHeader(try source.read(at: position, count: TarHeader.blockBytes)) else { return nil }
            position += TarHeader.blockBytes
            switch header.type {
            case UInt8(ascii: "x"), UInt8(ascii: "g"), UInt8(ascii: "L"), UInt8(ascii: "K"):
                ownBytes += header.size <= ImportLimits.extensionBytesMax ? header.size : ImportLimits.extensionBytesMax + 1
                guard ownBytes <= ImportLimits.extensionBytesMax else { throw ImportRefusal("an extended header is too long") }
                // An archive of an exabyte would be needed for this to overflow.
                extensionBytes += TarHeader.blockBytes + header.size
                let body = try contents(header.size)
                if header.type == UInt8(ascii: "g") {
                    var ignored = TarAttributes()
                    try PaxRecords.parse(body, into: &global, attributes: &ignored)
                } else if header.type == UInt8(ascii: "x") {
                    try PaxRecords.parse(body, into: &extended, attributes: &attributes)
                } else {
                    extended[header.type == UInt8(ascii: "L") ? .path : .link] = Array(body.prefix { $0 != 0 })
                }
            default:
                return try entry(header, global.merging(extended) { $1 }, attributes)
            }
        }
    }

    /// Reads what follows a header, and goes to the next one.
    private mutating func contents(_ size: Int) throws(ImportRefusal) -> [UInt8] {
        let start = try skip(size)
        return try source.read(at: start, count: size)
    }

    /// Goes to the header after contents of this size; returns where they start.
    private mutating func skip(_ size: Int) throws(ImportRefusal) -> Int {
        let start = position
        guard size <= source.count - start else { throw ImportRefusal("the archive ends within a member of \(size) bytes") }
        let padding = (TarHeader.blockBytes - size % TarHeader.blockBytes) % TarHeader.blockBytes
        // The padding of the last member may be missing.
        position = min(start + size + padding, source.count)
        return start
    }

    private mutating func entry(
        _ header: TarHeader, _ extended: [TarExtension: [UInt8]], _ attributes: TarAttributes
    ) throws(ImportRefusal) -> TarEntry {
        let path = extended[.sparseName] ?? extended[.path] ?? header.name
        guard var kind = Self.kind(header.type) else {
            throw ImportRefusal("\(quoted(path)) is of a kind that is not supported (\(quoted([header.type])))")
        }
        // Before POSIX, a directory was a file whose name ends so.
        if header.type == 0, path.last == UInt8(ascii: "/") { kind = .directory }
        var size = header.size
        if let text = extended[.size] {
            guard let value = Decimal.unsigned(text) else { throw ImportRefusal("\(quoted(path)) has a size that is not a number") }
            size = value
        }
        // What only has a header may carry a size that means something else.
        if kind != .regular { size = 0 }
        let map = kind == .regular ? try sparse(header, extended, size, path) : nil
        if let map { size = map.map.size }
        let start = try skip(map.map { $0.mapBytes + $0.map.stored } ?? size)
        var entry = TarEntry(
            kind: kind, path: path, link: extended[.link] ?? header.link, mode: header.mode, user: header.user, group: header.group,
            size: size, sparse: map?.map, offset: start + (map?.mapBytes ?? 0), modified: header.modified, deviceMajor: header.deviceMajor,
            deviceMinor: header.deviceMinor, attributes: attributes)
        if let text = extended[.user] { entry.user = try Self.identity(text, path) }
        if let text = extended[.group] { entry.group = try Self.identity(text, path) }
        if let text = extended[.modified] {
            guard let time = Decimal.time(text) else { throw ImportRefusal("\(quoted(path)) has a time that is not a number") }
            (entry.modified, entry.nanoseconds) = time
        }
        return entry
    }

    /// The map of a sparse file, and the bytes that it takes in front of the contents; nil for any other file.
    private mutating func sparse(
        _ header: TarHeader, _ extended: [TarExtension: [UInt8]], _ stored: Int, _ path: [UInt8]
    ) throws(ImportRefusal) -> (map: SparseMap, mapBytes: Int)? {
        var mapBytes = 0
        let map: SparseMap
        if var old = header.sparse {
            while old.continues {
                guard source.count - position >= TarHeader.blockBytes else { throw SparseMap.damaged(path) }
                try old.take(try source.read(at: position, count: TarHeader.blockBytes))
                position += TarHeader.blockBytes
                extensionBytes += TarHeader.blockBytes
            }
            map = try SparseMap(old.numbers, size: old.size, path)
        } else {
            guard extended[.sparseVersion] != nil || extended[.sparseMap] != nil else { return nil }
            guard let size = extended[.sparseSize].flatMap({ Decimal.unsigned($0) }) else { throw SparseMap.damaged(path) }
            let numbers: [Int]
            if let list = extended[.sparseMap] {
                numbers = try SparseMap.numbers(list, path)
            } else {
                (numbers, mapBytes) = try SparseMap.numbers(
                    inFrontOf: source, at: position, count: min(stored, source.count - position), path)
            }
            map = try SparseMap(numbers, size: size, path)
        }
        guard mapBytes + map.stored == stored else { throw SparseMap.damaged(path) }
        return (map, mapBytes)
    }

    private static func identity(_ text: [UInt8], _ path: [UInt8]) throws(ImportRefusal) -> UInt32 {
        guard let value = Decimal.unsigned(text), let result = UInt32(exactly: value), result != UInt32.max else {
            throw ImportRefusal("\(quoted(path)) has an owner that is not a number of 32 bits")
        }
        return result
    }

    private static func kind(_ type: UInt8) -> TarEntry.Kind? {
        switch type {
        case 0, UInt8(ascii: "0"), UInt8(ascii: "7"), UInt8(ascii: "S"): .regular
        case UInt8(ascii: "1"): .hardLink
        case UInt8(ascii: "2"): .symbolicLink
        case UInt8(ascii: "3"): .characterDevice
        case UInt8(ascii: "4"): .blockDevice
        case UInt8(ascii: "5"): .directory
        case UInt8(ascii: "6"): .fifo
        default: nil
        }
    }
}
