import Foundation
import Functions
import Testing

/// What may be in a function's code.
@Suite struct CodeStreamCheckTests {
    /// A tar entry.
    private func entry(_ name: String, type: Character = "0", link: String = "", contents: String = "", size: Int? = nil) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, _ offset: Int) { block.replaceSubrange(offset..<(offset + text.utf8.count), with: Array(text.utf8)) }
        put(name, 0)
        put(String(size ?? contents.utf8.count, radix: 8), 124)
        block[156] = type.asciiValue ?? 0
        put(link, 157)
        put("ustar", 257)
        let padding = (512 - contents.utf8.count % 512) % 512
        return block + Array(contents.utf8) + [UInt8](repeating: 0, count: padding)
    }

    private func extended(_ records: [(String, String)]) -> [UInt8] {
        let text = records.map { key, value in
            var length = key.utf8.count + value.utf8.count + 3
            length += "\(length + 2)".utf8.count
            return "\(length) \(key)=\(value)\n"
        }.joined()
        return entry("x", type: "x", contents: text)
    }

    private let end = [UInt8](repeating: 0, count: 1024)

    /// Why a stream is refused, in pieces of a length; nil when it is not.
    private func refusal(_ bytes: [UInt8], by length: Int = .max) -> String? {
        var check = CodeStreamCheck()
        do throws(CodeStreamCheck.Refusal) {
            var rest = bytes[...]
            while !rest.isEmpty {
                let piece = rest.prefix(length)
                try check.look(piece)
                rest = rest.dropFirst(piece.count)
            }
            try check.finish()
            return nil
        } catch { return error.description }
    }

    @Test func acceptsCode() {
        let long = String(repeating: "d/", count: 120) + "f"
        let stream =
            entry("./", type: "5") + entry("./app.py", contents: "x = 1\n") + entry("lib/", type: "5")
            + entry("lib/a", type: "2", link: "../app.py") + entry("b", type: "1", link: "./app.py")
            + extended([("path", long)]) + entry("short", contents: String(repeating: "y", count: 1000)) + end
        for length in [1, 7, 511, 512, 513, .max] { #expect(refusal(stream, by: length) == nil) }
        var check = CodeStreamCheck()
        #expect(throws: Never.self) { try check.look(stream) }
        #expect(check.entries == 6)
        #expect(check.unpackedBytes == 1006)
    }

    @Test func refusesWhatLeadsOut() {
        for name in ["/etc/passwd", "../x", "a/../../x", "a/b/../../../x"] {
            #expect(refusal(entry(name, contents: "x") + end)?.contains("leads out") == true, "\(name)")
        }
        for (name, target) in [("a", "/etc"), ("a", ".."), ("d/a", "../../x"), ("d/a", "/")] {
            #expect(refusal(entry(name, type: "2", link: target) + end)?.contains("leads out") == true, "\(name) to \(target)")
        }
        #expect(refusal(entry("a", type: "1", link: "../b") + end)?.contains("leads out") == true)
        #expect(refusal(extended([("path", "../x")]) + entry("a") + end)?.contains("leads out") == true)
        #expect(refusal(extended([("linkpath", "/x")]) + entry("a", type: "2", link: "b") + end)?.contains("leads out") == true)
        #expect(refusal(entry("null", type: "3") + end)?.contains("neither") == true)
    }

    @Test func refusesBombs() {
        #expect(refusal(entry("a", size: 251 << 20))?.contains("250 MiB") == true)
        #expect(refusal(extended([("size", "\(300 << 20)")]) + entry("a"))?.contains("250 MiB") == true)
        var check = CodeStreamCheck()
        let one = entry("a", type: "5")
        #expect(throws: CodeStreamCheck.Refusal.self) { for _ in 0...CodeStreamCheck.entriesMax { try check.look(one) } }
    }

    @Test func refusesWhatIsNoStream() {
        #expect(refusal([]) == "the archive is empty")
        #expect(refusal(end) == "the archive is empty")
        #expect(refusal(Array(entry("a", contents: "abc").prefix(514))) == "the archive breaks off")
        #expect(refusal([UInt8](repeating: 65, count: 512)) != nil)
        #expect(refusal(entry("x", type: "x", contents: "5 a\n") + entry("a") + end) == "an extended header is malformed")
        #expect(refusal(entry("x", type: "x", contents: "99999 path=a\n") + entry("a") + end) == "an extended header is malformed")
    }

    /// Random mutations: any outcome but a trap is fine, and it does not depend on how the bytes are cut.
    @Test func hostileBytes() {
        let seed = UInt64.random(in: 1 ... .max)
        var generator = SeededGenerator(seed: seed)
        let sample = extended([("path", "abc"), ("size", "3")]) + entry("a", contents: "abc") + entry("b", type: "2", link: "a") + end
        for _ in 0..<2_000 {
            var bytes = sample
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...127, using: &generator)
            }
            #expect(refusal(bytes) == refusal(bytes, by: Int.random(in: 1...700, using: &generator)), "seed \(seed)")
        }
    }
}

/// A small generator whose whole state is its seed, so that a failure can be repeated.
private struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
