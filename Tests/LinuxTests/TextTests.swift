import Linux
import Testing

@Suite struct VisibleTextTests {
    @Test func plainTextStays() {
        for text in ["", "plain", "two\nlines\tand a tab", "Ошибка • ü 日本 👩‍👩‍👧", "\\x1b"] {
            #expect(text.visible == text)
        }
        #expect("two\nlines\t".visibleLine == "two\\nlines\\t")
    }

    @Test func everythingThatSteersIsSpelledOut() {
        #expect("\u{1B}]0;title\u{7}\u{1B}[31m".visible == "\\x1b]0;title\\x07\\x1b[31m")
        #expect("a\rb\u{7F}\u{9B}2J".visible == "a\\rb\\x7f\\x9b2J")
        #expect("a\r\nb".visible == "a\\r\nb")
        #expect("safe\u{202E}fdp.exe\u{2066}\u{200F}\u{61C}".visible == "safe\\u{202e}fdp.exe\\u{2066}\\u{200f}\\u{61c}")
        for value in (0..<0x20).map({ UInt32($0) }) + Array(0x7F..<0xA0) + Array(0x202A...0x202E) + Array(0x2066...0x2069) {
            guard let scalar = Unicode.Scalar(value) else { continue }
            #expect(!String(scalar).visibleLine.unicodeScalars.contains(scalar))
        }
    }

    @Test func bytesThatAreNoTextAreShownAsSuch() {
        #expect(ByteText.string([0x61, 0xFF, 0x62]).visible == "a\\xffb")
    }
}

@Suite struct ByteTextTests {
    @Test func textIsText() {
        for text in ["", "plain", "ü 日本 👩", "\u{10FFFF}", "\u{0}"] {
            #expect(ByteText.string(Array(text.utf8)) == text)
            #expect(ByteText.bytes(text) == Array(text.utf8))
        }
    }

    @Test func bytesComeBack() {
        // Cut and overlong sequences, surrogates, and the scalars that stand for bytes themselves.
        for bytes in [
            [0xFF], [0x61, 0xFF, 0xFE, 0x62], [0xC3], [0xC0, 0xAF], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
            Array("\u{10FE80}".utf8), Array("a\u{10FEFF}b".utf8), [0x80] + Array("\u{10FE80}".utf8) + [0xF4],
        ] as [[UInt8]] {
            #expect(ByteText.bytes(ByteText.string(bytes)) == bytes, "\(bytes)")
        }
        let seed = UInt64.random(in: 0 ... .max)
        var state = seed
        func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 33
        }
        for _ in 0..<2000 {
            let bytes = (0..<Int(next() % 12)).map { _ in UInt8(truncatingIfNeeded: next() % 3 == 0 ? next() % 128 : 0xC0 + next() % 64) }
            #expect(ByteText.bytes(ByteText.string(bytes)) == bytes, "seed \(seed): \(bytes)")
        }
    }
}
