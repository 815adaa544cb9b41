/// What is known of a stream's current pages: 64 bits of each page's checksum, so that unchanged pages are recognized without a look-up.
///
/// Eight bytes a page that was ever written in this process; unknown where nothing is known. A forged checksum only fools the group that
/// forges it: what it loses is its own page.
struct CurrentPages {
    /// 512 pages a chunk.
    private static let chunkBits: UInt64 = 9
    /// 256 MiB of chunks, 128 GiB of pages; beyond that everything is forgotten.
    private static let chunksMax = 65536

    /// Nothing is known about the page.
    static let unknown: UInt64 = 0
    /// The page is zero.
    static let zero: UInt64 = 1

    private var chunks: [UInt64: Int] = [:]
    private var values: [UInt64] = []
    /// The chunk used last: pages come in order.
    private var last: (name: UInt64, start: Int) = (.max, 0)

    /// What is kept of a checksum.
    static func digest(_ checksum: Checksum) -> UInt64 { checksum.low <= zero ? checksum.low + 2 : checksum.low }

    /// What is known of a page.
    mutating func value(_ key: UInt64) -> UInt64 {
        guard let start = chunk(key >> Self.chunkBits, create: false) else { return Self.unknown }
        return values[start + Int(key & (1 << Self.chunkBits - 1))]
    }

    /// Remembers a page.
    mutating func set(_ key: UInt64, to value: UInt64) {
        guard let start = chunk(key >> Self.chunkBits, create: value != Self.unknown) else { return }
        values[start + Int(key & (1 << Self.chunkBits - 1))] = value
    }

    /// Forgets everything.
    mutating func forget() { self = CurrentPages() }

    private mutating func chunk(_ name: UInt64, create: Bool) -> Int? {
        if last.name == name { return last.start }
        if let start = chunks[name] {
            last = (name, start)
            return start
        }
        guard create else { return nil }
        if chunks.count == Self.chunksMax { forget() }
        let start = values.count
        values.append(contentsOf: repeatElement(Self.unknown, count: 1 << Self.chunkBits))
        chunks[name] = start
        last = (name, start)
        return start
    }
}
