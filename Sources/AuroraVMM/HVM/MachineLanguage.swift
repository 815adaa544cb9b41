/// The few words of ACPI's machine language (AML) that describe a machine's devices.
///
/// Source: ACPI Specification 6.5, chapters 20 (AML) and 6.4 (resource data).
enum MachineLanguage {
    /// `Name (NAME, value)`.
    static func name(_ name: String, _ value: [UInt8]) -> [UInt8] { [0x08] + segment(name) + value }

    /// An integer in its shortest form.
    static func integer(_ value: UInt8) -> [UInt8] { value <= 1 ? [value] : [0x0a, value] }

    static func string(_ text: String) -> [UInt8] { [0x0d] + Array(text.utf8) + [0] }

    static func package(_ elements: [[UInt8]]) -> [UInt8] {
        [0x12] + withLength([UInt8(truncatingIfNeeded: elements.count)] + elements.joined())
    }

    static func buffer(_ bytes: [UInt8]) -> [UInt8] {
        precondition(bytes.count <= 255, "a resource list of one device is short")
        return [0x11] + withLength([0x0a, UInt8(bytes.count)] + bytes)
    }

    static func scope(_ name: String, _ body: [UInt8]) -> [UInt8] { [0x10] + withLength([0x5c] + segment(name) + body) }

    static func device(_ name: String, _ body: [UInt8]) -> [UInt8] { [0x5b, 0x82] + withLength(segment(name) + body) }

    /// A resource list: a memory window and an edge-triggered interrupt.
    static func resources(window: UInt32, count: UInt32, interrupt: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0x86, 9, 0, 1]  // 32-bit fixed memory, writable
        bytes.append(littleEndian: window)
        bytes.append(littleEndian: count)
        bytes += [0x89, 6, 0, 0b0011, 1]  // one extended interrupt: consumer, edge, active high, not shared
        bytes.append(littleEndian: interrupt)
        return bytes + [0x79, 0]
    }

    /// A name of four characters, padded with underscores.
    private static func segment(_ name: String) -> [UInt8] {
        precondition(name.utf8.count <= 4, "a name has at most four characters")
        return Array(name.utf8) + [UInt8](repeating: 0x5f, count: 4 - name.utf8.count)
    }

    /// The body after its package length, which counts its own bytes (section 20.2.4).
    static func withLength(_ body: [UInt8]) -> [UInt8] {
        if body.count + 1 < 1 << 6 { return [UInt8(body.count + 1)] + body }
        let following = body.count + 2 < 1 << 12 ? 1 : 2
        let length = body.count + 1 + following
        precondition(length < 1 << 20, "a table is far shorter")
        var prefix = [UInt8(following << 6 | length & 0xf)]
        for index in 0..<following { prefix.append(UInt8(truncatingIfNeeded: length >> (4 + 8 * index))) }
        return prefix + body
    }
}
