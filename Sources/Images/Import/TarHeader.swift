/// One block of a tar archive that begins a member: ustar (POSIX.1-1988), GNU and Version 7.
struct TarHeader {
    static let blockBytes = 512

    let name: [UInt8]
    let mode: UInt32
    let user: UInt32
    let group: UInt32
    let size: Int
    let modified: Int64
    let type: UInt8
    let link: [UInt8]
    let deviceMajor: UInt32
    let deviceMinor: UInt32
    /// Of a sparse file as old GNU tar wrote it.
    let sparse: OldSparseHeader?

    /// Reads a block; nil for a block of zeros, which ends an archive.
    init?(_ block: [UInt8]) throws(ImportRefusal) {
        guard block.count == Self.blockBytes else { throw ImportRefusal("the archive ends within a header") }
        if block.allSatisfy({ $0 == 0 }) { return nil }
        try Self.checkSum(block)
        let isUstar = Array(block[257..<263]) == Array("ustar\0".utf8)
        let prefix = isUstar ? Self.text(block[345..<500]) : []
        let base = Self.text(block[0..<100])
        name = prefix.isEmpty ? base : prefix + [UInt8(ascii: "/")] + base
        mode = UInt32(truncatingIfNeeded: try Self.number(block[100..<108], "mode")) & 0o7777
        user = try Self.identity(block[108..<116], "user")
        group = try Self.identity(block[116..<124], "group")
        let size = try Self.number(block[124..<136], "size")
        guard size >= 0, let bytes = Int(exactly: size) else { throw ImportRefusal("a header has the size \(size)") }
        self.size = bytes
        modified = try Self.number(block[136..<148], "time")
        type = block[156]
        link = Self.text(block[157..<257])
        let hasDevice = type == UInt8(ascii: "3") || type == UInt8(ascii: "4")
        deviceMajor = hasDevice ? try Self.identity(block[329..<337], "device") : 0
        deviceMinor = hasDevice ? try Self.identity(block[337..<345], "device") : 0
        sparse = type == UInt8(ascii: "S") ? try OldSparseHeader(block) : nil
    }

    /// The sum of all bytes, its own field taken as blanks; some old programs summed signed bytes.
    private static func checkSum(_ block: [UInt8]) throws(ImportRefusal) {
        let wanted = try number(block[148..<156], "checksum")
        var unsigned: Int64 = 0
        var signed: Int64 = 0
        for (index, byte) in block.enumerated() {
            let counted = (148..<156).contains(index) ? UInt8(ascii: " ") : byte
            unsigned += Int64(counted)
            signed += Int64(Int8(bitPattern: counted))
        }
        guard wanted == unsigned || wanted == signed else {
            throw ImportRefusal("it is not a tar archive, or damaged: a header's checksum is wrong")
        }
    }

    private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix { $0 != 0 }) }

    private static func identity(_ field: ArraySlice<UInt8>, _ what: String) throws(ImportRefusal) -> UInt32 {
        let value = try number(field, what)
        // The all-ones number means "no change" to the kernel.
        guard let result = UInt32(exactly: value), result != UInt32.max else { throw ImportRefusal("a header has the \(what) \(value)") }
        return result
    }

    /// Octal digits between blanks and zeros, or GNU's base 256 when the first bit is set.
    static func number(_ field: ArraySlice<UInt8>, _ what: String) throws(ImportRefusal) -> Int64 {
        guard let first = field.first else { return 0 }
        if first & 0x80 != 0 { return try binary(field, what) }
        let blanks: [UInt8] = [0, UInt8(ascii: " ")]
        let digits = field.drop { blanks.contains($0) }.prefix { !blanks.contains($0) }
        var value: Int64 = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(digit) else { throw ImportRefusal("a header's \(what) is not a number") }
            // 12 digits of 3 bits fit.
            value = value << 3 | Int64(digit - UInt8(ascii: "0"))
        }
        return value
    }

    private static func binary(_ field: ArraySlice<UInt8>, _ what: String) throws(ImportRefusal) -> Int64 {
        var value: Int64 = field.first.map { $0 & 0x40 != 0 ? -1 : 0 } ?? 0
        for (index, byte) in field.enumerated() {
            let bits = index == 0 ? Int64(byte & 0x3f) | (value << 6) : Int64(byte)
            if index == 0 {
                value = bits
                continue
            }
            guard value >= -(1 << 54), value < 1 << 54 else { throw ImportRefusal("a header's \(what) is too large") }
            value = value << 8 | bits
        }
        return value
    }
}
