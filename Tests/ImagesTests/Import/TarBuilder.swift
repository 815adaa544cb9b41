/// Writes tar archives by hand, right ones and wrong ones.
struct TarBuilder {
    var bytes: [UInt8] = []

    /// One header and what follows it.
    mutating func add(
        _ path: String, type: Character = "0", _ contents: [UInt8] = [], link: String = "", mode: UInt32 = 0o644, user: Int = 0,
        group: Int = 0,
        modified: Int = 1_000_000_000, device: (Int, Int) = (0, 0), size: Int? = nil, change: (inout [UInt8]) -> Void = { _ in }
    ) {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: some Sequence<UInt8>, _ offset: Int) { for (index, byte) in text.enumerated() { header[offset + index] = byte } }
        func number(_ value: Int, _ offset: Int, _ digits: Int) {
            let text = String(value, radix: 8)
            put((String(repeating: "0", count: max(0, digits - text.count)) + text).utf8, offset)
        }
        put(path.utf8.prefix(100), 0)
        number(Int(mode), 100, 7)
        number(user, 108, 7)
        number(group, 116, 7)
        number(size ?? contents.count, 124, 11)
        number(modified, 136, 11)
        put(String(type).utf8, 156)
        put(link.utf8.prefix(100), 157)
        put("ustar\u{0}00".utf8, 257)
        number(device.0, 329, 7)
        number(device.1, 337, 7)
        change(&header)
        TarBuilder.seal(&header)
        bytes += header + contents + [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
    }

    mutating func add(_ path: String, _ text: String, mode: UInt32 = 0o644, user: Int = 0, group: Int = 0) {
        add(path, Array(text.utf8), mode: mode, user: user, group: group)
    }

    /// A pax header for the next member.
    mutating func extend(_ records: [(String, [UInt8])], type: Character = "x") {
        var body: [UInt8] = []
        for (key, value) in records {
            let rest = key.utf8.count + value.count + 3
            var length = rest + 1
            while String(length).utf8.count + rest != length { length = String(length).utf8.count + rest }
            body += Array("\(length) \(key)=".utf8) + value + [10]
        }
        add("PaxHeaders/x", type: type, body)
    }

    /// Puts the checksum in.
    static func seal(_ header: inout [UInt8]) {
        for index in 148..<156 { header[index] = 32 }
        let sum = header.reduce(0) { $0 + Int($1) }
        let text = String(sum, radix: 8)
        let field = Array((String(repeating: "0", count: max(0, 6 - text.count)) + text).utf8) + [0, 32]
        header.replaceSubrange(148..<156, with: field)
    }

    /// The archive with its end.
    var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}
