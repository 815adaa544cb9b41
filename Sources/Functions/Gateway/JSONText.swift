/// Whether bytes are one JSON text (RFC 8259): the check that a payload gets before a function is started for it.
///
/// It keeps nothing, copies nothing and does not recurse, so that no payload can exhaust memory or stack.
struct JSONText {
    /// The most levels of arrays and objects; Python's decoder has about as many.
    static let depthMax = 900

    private let bytes: UnsafeBufferPointer<UInt8>
    private var place = 0

    /// Nil when the bytes are a JSON text, else what is wrong and where.
    static func fault(in bytes: [UInt8]) -> String? {
        let fault = bytes.withUnsafeBufferPointer { buffer in
            var text = JSONText(bytes: buffer)
            return text.check().map { "\($0) at byte \(text.place)" }
        }
        if let fault { return fault }
        return String(validating: bytes, as: UTF8.self) == nil ? "not UTF-8" : nil
    }

    private init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    private var next: UInt8? { place < bytes.count ? bytes[place] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte == 32 || (9...10).contains(byte) || byte == 13 { place += 1 }
    }

    private mutating func check() -> String? {
        /// One entry a level: whether it is an object.
        var levels: [Bool] = []
        while true {
            skipBlanks()
            guard let byte = next else { return "a value is missing" }
            if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") {
                guard levels.count < JSONText.depthMax else { return "more than \(JSONText.depthMax) levels" }
                let isObject = byte == UInt8(ascii: "{")
                place += 1
                skipBlanks()
                if next == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
                    place += 1
                } else {
                    levels.append(isObject)
                    if isObject, let fault = key() { return fault }
                    continue
                }
            } else if let fault = scalar(byte) {
                return fault
            }
            // A value is complete: what follows belongs to the levels around it.
            if let end = close(&levels) { return end.fault }
        }
    }

    /// What follows a value; nil when another value must come, else whether the text is over or wrong.
    private mutating func close(_ levels: inout [Bool]) -> (fault: String?, Void)? {
        while true {
            skipBlanks()
            guard let isObject = levels.last else { return (place == bytes.count ? nil : "something follows the value", ()) }
            guard let byte = next else { return ("the text ends too early", ()) }
            if byte == UInt8(ascii: ",") {
                place += 1
                if isObject, let fault = key() { return (fault, ()) }
                return nil
            }
            guard byte == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else {
                return ("a comma or the end of the \(isObject ? "object" : "array") is missing", ())
            }
            place += 1
            levels.removeLast()
        }
    }

    private mutating func key() -> String? {
        skipBlanks()
        guard next == UInt8(ascii: "\"") else { return "a name is missing" }
        if let fault = string() { return fault }
        skipBlanks()
        guard next == UInt8(ascii: ":") else { return "a colon is missing" }
        place += 1
        return nil
    }

    private mutating func scalar(_ byte: UInt8) -> String? {
        switch byte {
        case UInt8(ascii: "\""): string()
        case UInt8(ascii: "t"): word("true")
        case UInt8(ascii: "f"): word("false")
        case UInt8(ascii: "n"): word("null")
        case UInt8(ascii: "-"), 48...57: number()
        default: "no value begins here"
        }
    }

    private mutating func word(_ word: StaticString) -> String? {
        guard bytes.count - place >= word.utf8CodeUnitCount,
            (0..<word.utf8CodeUnitCount).allSatisfy({ bytes[place + $0] == word.utf8Start[$0] })
        else { return "no value begins here" }
        place += word.utf8CodeUnitCount
        return nil
    }

    private mutating func digits() -> Int {
        let start = place
        while let byte = next, (48...57).contains(byte) { place += 1 }
        return place - start
    }

    private mutating func number() -> String? {
        if next == UInt8(ascii: "-") { place += 1 }
        let start = place
        let count = digits()
        guard count == 1 || (count > 1 && bytes[start] != 48) else { return "not a number" }
        if next == UInt8(ascii: ".") {
            place += 1
            guard digits() > 0 else { return "not a number" }
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            place += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { place += 1 }
            guard digits() > 0 else { return "not a number" }
        }
        return nil
    }

    private mutating func string() -> String? {
        place += 1
        while let byte = next {
            place += 1
            switch byte {
            case UInt8(ascii: "\""): return nil
            case 0..<32: return "a control character in a string"
            case UInt8(ascii: "\\"):
                guard let escape = next else { return "a string does not end" }
                place += 1
                if escape == UInt8(ascii: "u") {
                    for _ in 0..<4 {
                        guard let digit = next, isHexadecimal(digit) else { return "not an escape" }
                        place += 1
                    }
                } else if !"\"\\/bfnrt".utf8.contains(escape) {
                    return "not an escape"
                }
            default: break
            }
        }
        return "a string does not end"
    }

    private func isHexadecimal(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...70).contains(byte) || (97...102).contains(byte)
    }
}
