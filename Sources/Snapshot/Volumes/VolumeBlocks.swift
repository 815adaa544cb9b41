internal import AuroraVMM
internal import Linux

/// What a volume knows of its blocks: where each one's contents are, and which epoch changed it.
///
/// A *generation* is what lies between two freezes, numbered from 1. A block is in the list of every generation in which it
/// was written. When it is written again while the list of an earlier, frozen generation still waits to be read out, its
/// frozen contents must be kept aside before.
struct VolumeBlocks {
    /// Where the contents of a block are.
    enum Place: UInt64 {
        case base, scratch, zero
    }

    /// A frozen generation whose blocks were not all read out.
    struct Frozen {
        let generation: UInt64
        let blocks: [Int]
        /// Slots in the scratch storage that hold contents kept aside, by block.
        var aside: [Int: Int] = [:]
    }

    /// One word a block, zero at first.
    ///
    /// It holds the block's place, whether the contents of the last write's generation were read out, and that generation.
    /// Costs memory only where one was set.
    private let mapping: Mapping
    private let words: UnsafeMutablePointer<UInt64>
    private static let placeMask: UInt64 = 3
    private static let readOutBit: UInt64 = 4
    private static let generationShift: UInt64 = 3
    private(set) var generation: UInt64 = 1
    private(set) var dirty: [Int] = []
    private(set) var frozen: [Frozen] = []
    private var freeSlots: [Int] = []
    private var slots = 0

    /// - Throws: `SystemError` when there is no address space.
    init(count: Int) throws(SystemError) {
        let bytes = (count * MemoryLayout<UInt64>.size + pageBytes - 1) / pageBytes * pageBytes
        mapping = try .anonymous(count: max(bytes, pageBytes), what: "the table of a volume's blocks")
        words = mapping.base.assumingMemoryBound(to: UInt64.self)
    }

    func place(_ block: Int) -> Place { Place(rawValue: words[block] & VolumeBlocks.placeMask) ?? .base }
    mutating func setPlace(_ block: Int, _ place: Place) { words[block] = words[block] & ~VolumeBlocks.placeMask | place.rawValue }

    /// Notes a write of the open generation.
    mutating func markDirty(_ block: Int) {
        guard words[block] >> VolumeBlocks.generationShift != generation else { return }
        words[block] = generation << VolumeBlocks.generationShift | words[block] & VolumeBlocks.placeMask
        dirty.append(block)
    }

    /// Closes the open generation: its blocks wait to be read out.
    mutating func freeze() {
        frozen.append(Frozen(generation: generation, blocks: dirty))
        dirty = []
        generation += 1
    }

    /// The index in `frozen` of the generation that needs the block's contents before they change; nil: none.
    func frozenOwner(_ block: Int) -> Int? {
        let word = words[block]
        let last = word >> VolumeBlocks.generationShift
        guard last != generation, let first = frozen.first?.generation, last >= first, word & VolumeBlocks.readOutBit == 0 else {
            return nil
        }
        let index = Int(last - first)
        return frozen[index].aside[block] == nil ? index : nil
    }

    /// A place beside the disk for contents kept aside.
    mutating func takeSlot() -> Int {
        if let slot = freeSlots.popLast() { return slot }
        defer { slots += 1 }
        return slots
    }

    mutating func giveBack(slot: Int) { freeSlots.append(slot) }
    mutating func keep(_ block: Int, in slot: Int, for index: Int) { frozen[index].aside[block] = slot }

    /// Notes that the oldest frozen generation's contents of a block are read out.
    mutating func didReadOut(_ block: Int) {
        guard let generation = frozen.first?.generation else { return }
        if words[block] >> VolumeBlocks.generationShift == generation { words[block] |= VolumeBlocks.readOutBit }
        if let slot = frozen[0].aside.removeValue(forKey: block) { freeSlots.append(slot) }
    }

    /// Forgets the oldest frozen generation.
    mutating func finishOldest() {
        guard !frozen.isEmpty else { return }
        freeSlots += frozen.removeFirst().aside.values
    }
}
