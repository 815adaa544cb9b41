/// What streams need of the lower half: slots, space, the index of pages, and the gate that keeps the collector away.
///
/// All calls may come from several threads.
protocol StoreGround: AnyObject, Sendable {
    var disk: any Disk { get }
    /// The superblock's identifier of this store; seeds the checksums of commit blocks.
    var identity: StoreIdentity { get }
    /// How many slots there are, used or not.
    var slotCount: UInt32 { get }
    /// The newest valid copy of a slot; nil when no stream lives there.
    ///
    /// Never cached: another process may have written it.
    func slot(at index: UInt32) throws(StoreError) -> SlotRecord?
    /// All slots in which a stream lives, in their order.
    func slots() throws(StoreError) -> [(index: UInt32, record: SlotRecord)]
    /// What is wrong with a slot of which no copy can be read; nil when there is none.
    func slotDamage() throws(StoreError) -> StoreError?
    /// Slots that cannot be read: a stream may live there.
    func damagedSlots() throws(StoreError) -> Set<UInt32>
    /// Writes over the older copy of a slot (nil frees it); not yet durable.
    ///
    /// The caller holds the lock of the stream, or of the slots.
    func write(_ record: SlotRecord?, toSlot index: UInt32) throws(StoreError)
    /// Space for one writer, who holds the stream's lock; it owns the segments it claims until it is closed or dropped.
    ///
    /// Only one for a slot at a time: a second one makes what the first has claimed fair game for a collection.
    func makeAllocator(forSlot index: UInt32) throws(StoreError) -> any ExtentAllocator
    /// Hints where a page with this checksum may lie; each must be compared byte by byte.
    func candidates(for checksum: Checksum) -> [PageLocation]
    /// Tells others where a page lies, after its write has completed.
    func publish(_ checksum: Checksum, at location: PageLocation)
    /// Forgets where pages lie: after a failed flush of anyone, pages that were published may not be on the disk.
    func forgetHints()
    /// A page that a hint led to is about to be compared, and shared if it is equal: it stays where it is until the gate is left.
    ///
    /// Under the gate. False when it is not in use for certain, so that it must not be shared.
    func share(_ location: PageLocation) -> Bool
    /// Holds the collector off between its phases: from an epoch's first look-up or allocation until what refers to it (commit, slot) is
    /// written and its pages are published.
    ///
    /// Short in the usual case: a collection cannot begin or end meanwhile. Creating a stream from a checkpoint of another, too, happens
    /// within: from reading the origin until the new slot is written.
    func enterGate() throws(StoreError) -> any DiskLockHandle
}

/// Space for one writer.
///
/// Not thread-safe: one thread at a time. What it gives is marked when a collection is running.
protocol ExtentAllocator: AnyObject, Sendable {
    /// Gives between one and `blocks` contiguous blocks: right at `preferred` when that is free, else where most fit.
    ///
    /// - Throws: `StoreError.full`.
    func allocate(blocks: Int, preferred: UInt64?) throws(StoreError) -> Extent
    /// Takes back blocks nobody else has heard of: never published, in no commit that was written.
    ///
    /// Some are free again only after the next collection.
    func release(_ extent: Extent)
    /// Whether the last free blocks may be taken, too: only to free others (the anchor of a drop).
    var usesReserve: Bool { get set }
    /// Keeps the segments of what was allocated until `letGo`: neither the log nor a slot leads to it yet, so that a collection knows of
    /// it only by who owns them.
    func hold(_ extent: Extent)
    /// A slot leads to all that was held.
    func letGo()
    /// An extent that was allocated and will be used much later: its segments are not given back before `close`.
    var pinned: Extent { get set }
    /// Gives back all segments that have nothing of an extent, which was allocated and is not used up; not within the gate.
    func yield(keeping extent: Extent) throws(StoreError)
    /// Gives the segments back: nothing more will be allocated. Within the gate, like allocating.
    func close() throws(StoreError)
}

/// Blocks that follow one another.
public struct Extent: Hashable, Sendable {
    /// First byte, a multiple of the block size.
    public var offset: UInt64
    /// How many blocks of 4096 bytes.
    public var blocks: Int

    /// Names blocks.
    public init(offset: UInt64, blocks: Int) {
        self.offset = offset
        self.blocks = blocks
    }

    /// First byte behind it.
    public var end: UInt64 { offset + UInt64(blocks) * UInt64(StoreFormat.blockBytes) }
}

/// A store, told from any other: random, in its superblock.
public struct StoreIdentity: Hashable, Sendable, CustomStringConvertible {
    /// Lower half.
    public let low: UInt64
    /// Upper half.
    public let high: UInt64

    /// Takes an identifier as it lies on the disk.
    public init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    /// 32 hexadecimal digits.
    public var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

/// A stream, told from any other ever made: random; names come and go.
public struct StreamIdentity: Hashable, Sendable {
    /// Lower half.
    public let low: UInt64
    /// Upper half.
    public let high: UInt64

    /// Takes an identifier as it lies on the disk.
    public init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }
}

/// Stored bytes and their checksum, as whoever refers to them keeps both.
public struct DataReference: Hashable, Sendable {
    /// Where they lie; at most 4096 bytes.
    public var location: PageLocation
    /// Of the bytes.
    public var checksum: Checksum

    /// Refers to bytes.
    public init(location: PageLocation, checksum: Checksum) {
        self.location = location
        self.checksum = checksum
    }
}

/// What a slot says about the stream in it.
public struct SlotRecord: Hashable, Sendable {
    /// The stream.
    public var stream: StreamIdentity
    /// Its name, 1…128 bytes of UTF-8.
    public var name: String
    /// Its newest durable anchor.
    public var anchor: DataReference

    /// Describes a stream's slot.
    public init(stream: StreamIdentity, name: String, anchor: DataReference) {
        self.stream = stream
        self.name = name
        self.anchor = anchor
    }
}
