/// What an extended header can say of a member, as far as it matters here.
enum TarExtension: Hashable { case path, link, size, user, group, modified, sparseVersion, sparseMap, sparseName, sparseSize }

/// The records of a pax extended header: "LENGTH KEY=VALUE\n", the length in decimal and counting the whole record.
enum PaxRecords {
    private static let attributePrefix = Array("SCHILY.xattr.".utf8)

    /// Reads all records; an empty value takes back what an earlier header said.
    static func parse(
        _ bytes: [UInt8], into values: inout [TarExtension: [UInt8]], attributes: inout TarAttributes
    ) throws(ImportRefusal) {
        var start = 0
        while start < bytes.count {
            // Some programs fill up with zeros.
            if bytes[start] == 0 { return }
            let digits = bytes[start...].prefix(12).prefix { $0 != UInt8(ascii: " ") }
            guard let length = Decimal.unsigned(Array(digits)), length > digits.count + 2, length <= bytes.count - start,
                bytes[start + length - 1] == UInt8(ascii: "\n")
            else { throw ImportRefusal("an extended header is damaged") }
            let record = bytes[(start + digits.count + 1)..<(start + length - 1)]
            guard let separator = record.firstIndex(of: UInt8(ascii: "=")) else { throw ImportRefusal("an extended header is damaged") }
            try take(Array(record[..<separator]), record[(separator + 1)...], &values, &attributes)
            start += length
        }
    }

    private static func take(
        _ key: [UInt8], _ value: ArraySlice<UInt8>, _ values: inout [TarExtension: [UInt8]], _ attributes: inout TarAttributes
    ) throws(ImportRefusal) {
        if key.starts(with: attributePrefix) {
            let name = Array(key.dropFirst(attributePrefix.count))
            guard !name.isEmpty, !name.contains(0), name.count <= ImportLimits.nameBytesMax, !attributes.isFull,
                value.count <= ImportLimits.attributeBytesMax
            else { throw ImportRefusal("an extended attribute is too long, has no name, or is one too many") }
            return attributes.add(name, value)
        }
        // Version 0.0 of sparse files: a record for each place and each count, in order.
        if key.elementsEqual("GNU.sparse.offset".utf8) || key.elementsEqual("GNU.sparse.numbytes".utf8) {
            return values[.sparseMap, default: []] += value + [UInt8(ascii: ",")]
        }
        guard let known = known(key) else { return }
        guard !value.contains(0) else { throw ImportRefusal("an extended header has a zero byte in its \(quoted(key))") }
        values[known] = value.isEmpty ? nil : Array(value)
    }

    private static func known(_ key: [UInt8]) -> TarExtension? {
        switch String(decoding: key, as: UTF8.self) {
        case "path": .path
        case "linkpath": .link
        case "size": .size
        case "uid": .user
        case "gid": .group
        case "mtime": .modified
        case "GNU.sparse.major": .sparseVersion
        case "GNU.sparse.map": .sparseMap
        case "GNU.sparse.name": .sparseName
        case "GNU.sparse.size", "GNU.sparse.realsize": .sparseSize
        default: nil
        }
    }
}

/// Decimal numbers in foreign bytes.
enum Decimal {
    /// Digits and nothing else; nil when it is not that, or does not fit.
    static func unsigned(_ text: some Collection<UInt8>) -> Int? {
        guard !text.isEmpty, text.count <= 18 else { return nil }
        var value = 0
        for digit in text {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            value = value * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return value
    }

    /// Seconds since 1970 with a fraction: "-12.5" is twelve and a half seconds before.
    static func time(_ text: [UInt8]) -> (seconds: Int64, nanoseconds: UInt32)? {
        let isNegative = text.first == UInt8(ascii: "-")
        let parts = text.dropFirst(isNegative ? 1 : 0).split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, let seconds = unsigned(whole), seconds <= Int(Int32.max) << 8 else { return nil }
        var nanoseconds = 0
        if parts.count == 2 {
            let digits = Array(parts[1].prefix(9))
            guard digits.isEmpty || unsigned(digits) != nil, parts[1].count <= 32 else { return nil }
            nanoseconds = unsigned(digits) ?? 0
            for _ in digits.count..<9 { nanoseconds *= 10 }
        }
        guard isNegative else { return (Int64(seconds), UInt32(nanoseconds)) }
        return nanoseconds == 0 ? (-Int64(seconds), 0) : (-Int64(seconds) - 1, UInt32(1_000_000_000 - nanoseconds))
    }
}
