/// A checkpoint, opened: its state, and its pages one by one as they are needed.
///
/// Every page is checked when it is read. Thread-safe. What it reads stays there as long as the checkpoint is in its stream's history, or
/// in the chain of a stream that began with it.
public final class CheckpointReader: Sendable {
    /// The stream's name when it was opened.
    public let streamName: String
    /// Which checkpoint it is.
    public let reference: CheckpointReference
    let block: CommitBlock
    let chain: [Tree]
    private let pages: PageReader

    init(streamName: String, block: CommitBlock, source: NodeSource) {
        self.streamName = streamName
        self.block = block
        reference = CheckpointReference(stream: block.stream, number: block.number)
        chain = block.chain.map { Tree(reference: $0, source: source) }
        pages = PageReader(source: source)
    }

    /// The epoch's number.
    public var number: UInt64 { block.number }
    /// When it was closed: nanoseconds since 1970.
    public var time: UInt64 { block.time }
    /// The name it was closed with; empty for none.
    public var name: String { block.name }
    /// What the caller gave when it closed the epoch.
    public var statistics: [UInt8] { block.statistics }
    /// Bytes of the state.
    public var stateByteCount: UInt64 { block.stateBytes }

    /// Reads the state.
    ///
    /// - Parameter bytesMax: more is refused before it is read.
    /// - Throws: `StoreError`.
    public func state(bytesMax: Int = 1 << 30) throws(StoreError) -> [UInt8] {
        try named { () throws(StoreError) in
            guard block.stateBytes <= UInt64(clamping: bytesMax) else {
                throw .invalid(what: "state", reason: "it has \(block.stateBytes) bytes, at most \(bytesMax) are expected")
            }
            var bytes: [UInt8] = []
            var cursor = try Tree(reference: block.state, source: pages.source).cursor()
            while let entry = cursor.entry, bytes.count <= bytesMax {
                try pages.source.withBytes(of: entry.reference, what: "state") { bytes.append(contentsOf: $0) }
                try cursor.advance()
            }
            guard UInt64(bytes.count) == block.stateBytes else {
                throw .damaged(.init("state", reason: "it has \(bytes.count) bytes instead of \(block.stateBytes)"))
            }
            return bytes
        }
    }

    /// Where a page is stored; nil when it is zero.
    ///
    /// - Throws: `StoreError`.
    public func locate(_ key: PageKey) throws(StoreError) -> PageReference? {
        try named { () throws(StoreError) in
            for table in chain {
                if let entry = try table.find(key.rawValue) { return entry.location.isZero ? nil : PageReference(entry) }
            }
            return nil
        }
    }

    /// Fills a page's 4096 bytes, checked; zeros where nothing is stored.
    ///
    /// - Throws: `StoreError.damaged` rather than wrong bytes.
    public func read(_ key: PageKey, into page: UnsafeMutableRawBufferPointer) throws(StoreError) {
        guard let found = try locate(key) else {
            page.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        try read(found, into: page)
    }

    /// Fills a page that has been located.
    ///
    /// - Throws: `StoreError.damaged` rather than wrong bytes.
    public func read(_ page: PageReference, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        try named { () throws(StoreError) in try pages.read(page.entry, into: buffer) }
    }

    /// Fills pages that follow one another: `buffer.count / 4096` of them, from `key` on.
    ///
    /// Neighbours on the disk are read at once.
    ///
    /// - Throws: `StoreError`; then the buffer holds anything.
    public func readRun(from key: PageKey, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        precondition(buffer.count % StoreFormat.blockBytes == 0, "pages have 4096 bytes")
        try named { () throws(StoreError) in
            let wanted = try entries(from: key.rawValue, count: UInt64(buffer.count / StoreFormat.blockBytes))
            try RunReader(pages: pages).read(wanted, first: key.rawValue, into: buffer)
        }
    }

    /// All pages of a map that are not zero, in a range of page numbers, in order.
    ///
    /// - Throws: `StoreError`.
    public func pages(inMap map: UInt16, _ range: Range<UInt64> = 0..<PageKey.pagesMax) throws(StoreError) -> [PageReference] {
        guard let first = PageKey(map: map, page: min(range.lowerBound, PageKey.pagesMax - 1)), !range.isEmpty else { return [] }
        return try named { () throws(StoreError) in
            try entries(from: first.rawValue, count: min(range.upperBound, PageKey.pagesMax) - range.lowerBound).map(PageReference.init)
        }
    }

    /// The keys of all pages that differ from those of another checkpoint, in order; either may be older, or of another stream.
    ///
    /// Costs what has changed, not what there is, for two checkpoints that have a past in common.
    ///
    /// - Throws: `StoreError`.
    public func differences(from other: CheckpointReader) throws(StoreError) -> [PageKey] {
        try named { () throws(StoreError) in
            let common = zip(chain.reversed(), other.chain.reversed()).prefix { $0.reference == $1.reference }.count
            var merger = try TableMerger(Array(chain.dropLast(common) + other.chain.dropLast(common)))
            var keys: [PageKey] = []
            while let candidate = try merger.next() {
                let key = PageKey(rawValue: candidate.key)
                if try locate(key)?.checksum != other.locate(key)?.checksum { keys.append(key) }
            }
            return keys
        }
    }

    /// The entries of stored pages among `count` keys.
    private func entries(from key: UInt64, count: UInt64) throws(StoreError) -> [TreeEntry] {
        var merger = try TableMerger(chain, from: key)
        var result: [TreeEntry] = []
        while let entry = try merger.next(), entry.key - key < count {
            if !entry.location.isZero { result.append(entry) }
        }
        return result
    }

    private func named<Result>(_ body: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        do throws(StoreError) { return try body() } catch { throw error.inStream(streamName, number: number) }
    }
}
