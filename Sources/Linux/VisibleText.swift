extension String {
    /// The text as our own words may hold it: what would steer a terminal, or turn the order of letters around, is spelled out.
    ///
    /// Everything that a guest, an image, a stream or a file says, and that a command prints as its own words, goes through this;
    /// a program's own stream does not. Ends of lines and tabs stay.
    public var visible: String { spelledOut { $0 == "\n" || $0 == "\t" } }

    /// The same on one line.
    public var visibleLine: String { spelledOut { _ in false } }

    private func spelledOut(but isKept: (Unicode.Scalar) -> Bool) -> String {
        guard unicodeScalars.contains(where: { !isKept($0) && String.steersTerminal($0) }) else { return self }
        var text = ""
        for scalar in unicodeScalars {
            if isKept(scalar) || !String.steersTerminal(scalar) {
                text.unicodeScalars.append(scalar)
            } else {
                text += String.spelling(scalar)
            }
        }
        return text
    }

    /// Controls (C0, DEL, C1), marks that change the direction of text or are not seen (UAX #9, general category Cf), separators of
    /// lines, and bytes that were no text.
    private static func steersTerminal(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0, 0x61C, 0x180E, 0x200B, 0x200E...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFF9...0xFFFB: true
        case 0xE0000...0xE007F: true
        default: ByteText.byte(scalar) != nil
        }
    }

    private static func spelling(_ scalar: Unicode.Scalar) -> String {
        switch scalar {
        case "\n": return "\\n"
        case "\r": return "\\r"
        case "\t": return "\\t"
        default: break
        }
        if let byte = ByteText.byte(scalar) { return "\\x\(hexadecimal(UInt32(byte)))" }
        return scalar.value < 0x100 ? "\\x\(hexadecimal(scalar.value))" : "\\u{\(hexadecimal(scalar.value))}"
    }

    private static func hexadecimal(_ value: UInt32) -> String { (value < 16 ? "0" : "") + String(value, radix: 16) }
}
