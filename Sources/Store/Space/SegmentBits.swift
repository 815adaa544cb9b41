/// A bit for each of the 1024 blocks of a segment.
struct SegmentBits: Hashable, Sendable {
    /// Blocks in a segment.
    static let count = StoreFormat.segmentBlocks
    /// 64 blocks a word, the first block in the lowest bit.
    var words: SIMD16<UInt64>

    /// No bit is set.
    static let none = SegmentBits(words: .zero)
    /// All bits are set.
    static let all = SegmentBits(words: SIMD16(repeating: ~0))

    init(words: SIMD16<UInt64>) { self.words = words }

    /// How many bits are set.
    var setCount: Int {
        var sum = 0
        for index in 0..<16 { sum += words[index].nonzeroBitCount }
        return sum
    }
    /// Whether no bit is set.
    var isEmpty: Bool { words == .zero }

    func contains(_ bit: Int) -> Bool { words[bit >> 6] >> UInt64(bit & 63) & 1 == 1 }

    /// Sets or clears a range of bits.
    mutating func set(_ range: Range<Int>, to value: Bool) {
        var bit = range.lowerBound
        while bit < range.upperBound {
            let count = min(64 - bit & 63, range.upperBound - bit)
            let mask = (count == 64 ? ~0 : (UInt64(1) << UInt64(count)) - 1) << UInt64(bit & 63)
            if value { words[bit >> 6] |= mask } else { words[bit >> 6] &= ~mask }
            bit += count
        }
    }

    /// The first set bit at or after one; nil when there is none.
    func first(from bit: Int) -> Int? {
        guard bit < Self.count else { return nil }
        var index = bit >> 6
        var word = words[index] & (~0 << UInt64(bit & 63))
        while word == 0 {
            index += 1
            guard index < 16 else { return nil }
            word = words[index]
        }
        return index << 6 + word.trailingZeroBitCount
    }

    /// The first clear bit at or after one; the count when there is none.
    func firstClear(from bit: Int) -> Int { SegmentBits(words: ~words).first(from: bit) ?? Self.count }

    /// The run of set bits that begins at or after one; nil when there is none.
    func run(from bit: Int) -> Range<Int>? {
        guard let start = first(from: bit) else { return nil }
        return start..<firstClear(from: start)
    }

    /// The first run of at least so many bits, else the longest one.
    func run(atLeast count: Int) -> Range<Int>? {
        var best: Range<Int>?
        var next = run(from: 0)
        while let run = next {
            if run.count >= count { return run }
            if run.count > best?.count ?? 0 { best = run }
            next = self.run(from: run.upperBound)
        }
        return best
    }
}
