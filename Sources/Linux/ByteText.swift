/// Bytes that are meant to be text and need not be, as a string that gives them back: arguments and variables of a program.
///
/// What is UTF-8 stays as it is. A byte that is not becomes one of 128 scalars of the last private plane (as PEP 383 does with
/// surrogates, which a Swift string cannot hold); text that has such scalars itself is taken byte by byte, so that nothing is lost.
public enum ByteText {
    /// Stands for byte 0x80; bytes below are always text.
    private static let first: UInt32 = 0x10FE80

    /// The byte that a scalar stands for; nil for a scalar that stands for itself.
    static func byte(_ scalar: Unicode.Scalar) -> UInt8? {
        (first..<first + 0x80).contains(scalar.value) ? UInt8(truncatingIfNeeded: scalar.value - first + 0x80) : nil
    }

    /// The string of some bytes.
    public static func string(_ bytes: some Collection<UInt8>) -> String {
        var text = String.UnicodeScalarView()
        var parser = Unicode.UTF8.ForwardParser()
        var rest = bytes.makeIterator()
        var place = bytes.startIndex
        while true {
            switch parser.parseScalar(from: &rest) {
            case .emptyInput: return String(text)
            case .valid(let encoded):
                let scalar = Unicode.UTF8.decode(encoded)
                if byte(scalar) == nil { text.append(scalar) } else { for byte in encoded { append(byte, to: &text) } }
                place = bytes.index(place, offsetBy: encoded.count)
            case .error(let length):
                let end = bytes.index(place, offsetBy: length)
                for byte in bytes[place..<end] { append(byte, to: &text) }
                place = end
            }
        }
    }

    private static func append(_ byte: UInt8, to text: inout String.UnicodeScalarView) {
        // Both are scalars by their ranges.
        if let scalar = Unicode.Scalar(byte < 0x80 ? UInt32(byte) : first + UInt32(byte) - 0x80) { text.append(scalar) }
    }

    /// The bytes of a string that `string` made; of any other its UTF-8.
    public static func bytes(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            if let byte = byte(scalar) {
                bytes.append(byte)
            } else {
                bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
            }
        }
        return bytes
    }
}
