/// The checkpoints of a stream in their order, read lazily a page at a time, and their names.
struct History: Sendable {
    /// More names than anyone gives.
    static let namesMax = 65536

    private struct Page: Sendable {
        /// Where it lies; nil when it has changed since.
        var stored: TreeEntry?
        var firstNumber: UInt64
        /// Nil as long as nobody needed them.
        var entries: [CheckpointEntry]?
    }

    private var pages: [Page] = []
    /// By number.
    private(set) var names: [UInt64: String] = [:]
    private(set) var count: UInt64 = 0
    private let source: NodeSource
    /// The tree of names as it lies on the disk; nil when it has changed since.
    private var storedNames: TreeReference?

    /// An empty history, or what an anchor knows.
    init(source: NodeSource, anchor: Anchor? = nil) throws(StoreError) {
        self.source = source
        guard let anchor else { return }
        count = anchor.entryCount
        var cursor = try Tree(reference: anchor.history, source: source).cursor()
        while let entry = cursor.entry {
            pages.append(Page(stored: entry, firstNumber: entry.key, entries: nil))
            try cursor.advance()
        }
        storedNames = anchor.names
        cursor = try Tree(reference: anchor.names, source: source).cursor()
        while let entry = cursor.entry {
            guard names.count < Self.namesMax else { throw .damaged(.init("names", reason: "there are more than \(Self.namesMax)")) }
            names[entry.key] = try source.withBytes(of: entry.reference, what: "name") { bytes throws(StoreError) in
                var reader = ByteReader(bytes, what: "name", place: entry.location.offset)
                return try reader.takeName(count: bytes.count)
            }
            try cursor.advance()
        }
    }

    // MARK: reading

    /// The entries of a page, named.
    private mutating func entries(_ index: Int) throws(StoreError) -> [CheckpointEntry] {
        if let entries = pages[index].entries { return entries }
        guard let stored = pages[index].stored else { return [] }
        let decoded = try Self.decode(stored, source: source)
        pages[index].entries = decoded
        return decoded
    }

    private static func decode(_ stored: TreeEntry, source: NodeSource) throws(StoreError) -> [CheckpointEntry] {
        try source.withBytes(of: stored.reference, what: "history") { bytes throws(StoreError) in
            var reader = ByteReader(bytes, what: "history", place: stored.location.offset)
            let count = bytes.count / CheckpointEntry.byteCount
            guard count > 0, bytes.count % CheckpointEntry.byteCount == 0 else { throw reader.damage("it has \(bytes.count) bytes") }
            var entries: [CheckpointEntry] = []
            for _ in 0..<count {
                let entry = try CheckpointEntry(from: &reader)
                if let last = entries.last, last.number >= entry.number || last.sequence >= entry.sequence {
                    throw reader.damage("entries are out of order")
                }
                entries.append(entry)
            }
            guard entries[0].number == stored.key else { throw reader.damage("it begins with another number than its tree says") }
            return entries
        }
    }

    private func named(_ entry: CheckpointEntry) -> CheckpointEntry {
        var entry = entry
        entry.name = names[entry.number] ?? ""
        return entry
    }

    /// All entries, oldest first.
    mutating func all() throws(StoreError) -> [CheckpointEntry] {
        var result: [CheckpointEntry] = []
        result.reserveCapacity(Int(clamping: min(count, 1 << 20)))
        for index in pages.indices { for entry in try entries(index) { result.append(named(entry)) } }
        return result
    }

    /// The newest entry.
    mutating func newest() throws(StoreError) -> CheckpointEntry? {
        guard let last = pages.indices.last else { return nil }
        return try entries(last).last.map { named($0) }
    }

    /// The entry with a number.
    mutating func find(_ number: UInt64) throws(StoreError) -> CheckpointEntry? {
        guard let index = pageIndex(of: number) else { return nil }
        return try entries(index).first { $0.number == number }.map { named($0) }
    }

    /// The newest entry that was made at a time or before; the clock may have jumped, so it is looked for from the newest on.
    mutating func newest(notAfter time: UInt64) throws(StoreError) -> CheckpointEntry? {
        for index in pages.indices.reversed() {
            if let entry = try entries(index).last(where: { $0.time <= time }) { return named(entry) }
        }
        return nil
    }

    /// The number that has a name.
    func number(named name: String) -> UInt64? { names.first { $0.value == name }?.key }

    private func pageIndex(of number: UInt64) -> Int? {
        var low = 0
        var high = pages.count
        while low < high {
            let middle = (low + high) / 2
            if pages[middle].firstNumber <= number { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? nil : low - 1
    }

    // MARK: changing

    /// Appends the newest entry.
    mutating func append(_ entry: CheckpointEntry) throws(StoreError) {
        if !entry.name.isEmpty { setName(entry.name, of: entry.number) }
        if let last = pages.indices.last, try entries(last).count < CheckpointEntry.perPage {
            pages[last].entries?.append(entry)
            pages[last].stored = nil
        } else {
            pages.append(Page(stored: nil, firstNumber: entry.number, entries: [entry]))
        }
        count &+= 1
    }

    /// Gives a checkpoint a name; an empty one takes it away.
    mutating func setName(_ name: String, of number: UInt64) {
        if names[number] ?? "" == name { return }
        names[number] = name.isEmpty ? nil : name
        storedNames = nil
    }

    /// Removes entries, and joins pages that have become half empty with their neighbours.
    mutating func remove(_ numbers: Set<UInt64>) throws(StoreError) {
        var touched: Set<Int> = []
        for number in numbers { if let index = pageIndex(of: number) { touched.insert(index) } }
        for index in touched.sorted(by: >) {
            var entries = try entries(index)
            let before = entries.count
            entries.removeAll { numbers.contains($0.number) }
            guard entries.count != before else { continue }
            count -= min(count, UInt64(before - entries.count))
            replacePage(index, with: entries)
        }
        for number in numbers where names[number] != nil { setName("", of: number) }
        for index in touched.sorted(by: >) { try join(index) }
    }

    private mutating func replacePage(_ index: Int, with entries: [CheckpointEntry]) {
        pages[index].entries = entries
        pages[index].stored = nil
        // An emptied page keeps its place until pages are joined.
        if let first = entries.first { pages[index].firstNumber = first.number }
    }

    private mutating func join(_ index: Int) throws(StoreError) {
        guard index < pages.count else { return }
        let own = try entries(index)
        if own.isEmpty {
            pages.remove(at: index)
            return
        }
        guard index + 1 < pages.count else { return }
        let next = try entries(index + 1)
        guard own.count + next.count <= CheckpointEntry.perPage * 3 / 4 else { return }
        replacePage(index, with: own + next)
        pages.remove(at: index + 1)
    }

    // MARK: writing

    /// Places what has changed, and gives the trees for an anchor.
    mutating func store(
        place: @escaping (UnsafeRawBufferPointer) throws(StoreError) -> PageLocation
    ) throws(StoreError) -> (history: TreeReference, names: TreeReference) {
        var builder = TreeBuilder(place: place)
        for index in pages.indices {
            if pages[index].stored == nil, let entries = pages[index].entries {
                var writer = ByteWriter(capacity: StoreFormat.blockBytes)
                for entry in entries { entry.encode(to: &writer) }
                pages[index].stored = TreeEntry(key: pages[index].firstNumber, try Self.placed(writer.bytes, place))
            }
            if let stored = pages[index].stored { try builder.add(stored) }
        }
        if storedNames == nil {
            var builder = TreeBuilder(place: place)
            for (number, name) in names.sorted(by: { $0.key < $1.key }) {
                try builder.add(TreeEntry(key: number, try Self.placed(Array(name.utf8), place)))
            }
            storedNames = try builder.finish()
        }
        return (try builder.finish(), storedNames ?? .empty)
    }

    static func placed(
        _ bytes: [UInt8], _ place: (UnsafeRawBufferPointer) throws(StoreError) -> PageLocation
    ) throws(StoreError) -> DataReference {
        try bytes.withUnsafeBytes { bytes in
            Result { () throws(StoreError) in DataReference(location: try place(bytes), checksum: Checksum(of: bytes)) }
        }.get()
    }
}
