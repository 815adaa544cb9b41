/// Swift source with the contents of comments and string literals blanked out, so that simple searches do not stumble
/// over them.
///
/// Lines and columns stay where they were. A heuristic: regex literals and code in interpolations are not understood.
struct SwiftText {
    let lines: [String]

    init(_ source: String) {
        var masker = Masker(bytes: Array(source.utf8))
        masker.run()
        lines = String(decoding: masker.output, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    /// A function's first line (1 for the file's first) and how many lines it has, signature to closing brace.
    struct Function {
        let line: Int
        let lineCount: Int
    }

    /// All functions and initializers with a body, nested ones too.
    var functions: [Function] {
        lines.indices.compactMap { index in
            guard lines[index].contains(/^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:[a-z]+(?:\(\w+\))?\s+)*(?:func\s|init[(<?]|deinit\b)/) else {
                return nil
            }
            guard let end = bodyEnd(from: index) else { return nil }
            return Function(line: index + 1, lineCount: end - index + 1)
        }
    }

    /// The line where the braces opened at or after `start` close again; nil when a declaration has no body.
    private func bodyEnd(from start: Int) -> Int? {
        var depth = 0
        var parentheses = 0
        var opened = false
        for index in start..<lines.count {
            if index > start, !opened, parentheses == 0, lines[index].contains(/^\s*(?:@|func\s|var\s|init\(|\}|public\s)/) { return nil }
            for character in lines[index] {
                switch character {
                case "(": parentheses += 1
                case ")": parentheses -= 1
                case "{" where opened || parentheses == 0:
                    depth += 1
                    opened = true
                case "}" where opened: depth -= 1
                default: break
                }
            }
            if opened && depth == 0 { return index }
        }
        return nil
    }
}

/// Copies source bytes, replacing what is inside comments and string literals by spaces.
private struct Masker {
    let bytes: [UInt8]
    var output: [UInt8] = []
    private var at = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
        output.reserveCapacity(bytes.count)
    }

    mutating func run() {
        while at < bytes.count {
            if matches("//") {
                blank { !$0.matches("\n") }
            } else if matches("/*") {
                blankBlockComment()
            } else if let hashes = rawStringHashes() {
                blankString(hashes: hashes)
            } else if matches("\"") {
                blankString(hashes: 0)
            } else {
                copy()
            }
        }
    }

    private func matches(_ text: StaticString, offset: Int = 0) -> Bool {
        let count = text.utf8CodeUnitCount
        guard at + offset + count <= bytes.count else { return false }
        return text.withUTF8Buffer { $0.elementsEqual(bytes[(at + offset)..<(at + offset + count)]) }
    }

    private mutating func copy(_ count: Int = 1) {
        for _ in 0..<count where at < bytes.count {
            output.append(bytes[at])
            at += 1
        }
    }

    private mutating func skip() {
        output.append(bytes[at] == UInt8(ascii: "\n") ? bytes[at] : UInt8(ascii: " "))
        at += 1
    }

    private mutating func blank(while goesOn: (Masker) -> Bool) {
        while at < bytes.count, goesOn(self) { skip() }
    }

    private mutating func blankBlockComment() {
        var depth = 0
        repeat {
            if matches("/*") { depth += 1 } else if matches("*/") { depth -= 1 }
            skip()
        } while at < bytes.count && depth > 0
        if at < bytes.count { skip() }
    }

    private func rawStringHashes() -> Int? {
        var count = 0
        while matches("#", offset: count) { count += 1 }
        return count > 0 && matches("\"", offset: count) ? count : nil
    }

    private mutating func blankString(hashes: Int) {
        copy(hashes)
        let quotes = matches("\"\"\"") ? 3 : 1
        copy(quotes)
        while at < bytes.count {
            if hashes == 0, matches("\\") {
                skip()
                if at < bytes.count { skip() }
            } else if closes(quotes: quotes, hashes: hashes) {
                copy(quotes + hashes)
                return
            } else if quotes == 1, matches("\n") {
                return
            } else {
                skip()
            }
        }
    }

    private func closes(quotes: Int, hashes: Int) -> Bool {
        guard quotes == 3 ? matches("\"\"\"") : matches("\"") else { return false }
        return (0..<hashes).allSatisfy { matches("#", offset: quotes + $0) }
    }
}
