import Synchronization

/// The device's side of a split virtqueue (virtio 1.2, section 2.7) in the memory of a guest that may be hostile.
///
/// Confined to whoever holds the device's lock. The rings are resolved once: guest memory never moves.
final class VirtQueue {
    /// The queue's number.
    let index: Int
    /// Entries; a power of two.
    let size: UInt16
    /// The available-ring index taken next.
    private(set) var nextAvailable: UInt16
    /// The used-ring index filled next.
    private(set) var nextUsed: UInt16
    /// The available index `pop` read last.
    private var seenAvailable: UInt16

    private let memory: GuestMemory
    private let descriptors: GuestWindow
    private let available: GuestWindow
    private let used: GuestWindow
    private let hasEventIndex: Bool
    private let hasIndirect: Bool
    private let turn: DeviceTurn?
    /// The used index the driver was last told about; nil when unknown (then it is always told).
    private var announcedUsed: UInt16?

    private var mask: UInt16 { size - 1 }

    /// Checks a driver's set-up and resolves the rings.
    ///
    /// - Parameter turn: what taking requests is charged to; nil for a queue that is only checked.
    /// - Throws: `VirtioError` when size, alignment, address or progress are not acceptable.
    init(
        index: Int, setup: QueueState, sizeMax: UInt16, features: UInt64, memory: GuestMemory, turn: DeviceTurn? = nil
    ) throws(VirtioError) {
        self.turn = turn
        guard let size = UInt16(exactly: setup.size), size > 0, size & (size - 1) == 0, size <= sizeMax else {
            throw .badQueueSize(queue: index, size: setup.size)
        }
        self.index = index
        self.size = size
        self.memory = memory
        let count = Int(size)
        descriptors = try Self.resolve(memory, index, "descriptor table", setup.descriptorTable, 16 * count, alignment: 16)
        // Flags, index, ring, and the event word that lies behind the ring.
        available = try Self.resolve(memory, index, "available ring", setup.driverRing, 6 + 2 * count, alignment: 2)
        used = try Self.resolve(memory, index, "used ring", setup.deviceRing, 6 + 8 * count, alignment: 4)
        hasEventIndex = features & VirtioFeature.eventIndex != 0
        hasIndirect = features & VirtioFeature.indirectDescriptors != 0
        guard setup.nextAvailable &- setup.nextUsed <= size else {
            throw .indexJump(queue: index, from: setup.nextUsed, to: setup.nextAvailable)
        }
        nextAvailable = setup.nextAvailable
        seenAvailable = setup.nextAvailable
        nextUsed = setup.nextUsed
        announcedUsed = nil
    }

    private static func resolve(
        _ memory: GuestMemory, _ queue: Int, _ what: String, _ address: UInt64, _ count: Int, alignment: UInt64
    ) throws(VirtioError) -> GuestWindow {
        let start = GuestAddress(address)
        guard address % alignment == 0, let window = try? memory.window(start, count) else {
            throw .badAddress(queue: queue, what: what, address: start, count: count)
        }
        return window
    }

    // MARK: - Taking requests

    /// Whether the driver has offered a request that was not taken.
    ///
    /// A wild index counts; `pop` will refuse it.
    var hasPending: Bool { available.atomic(2, as: UInt16.self).pointee.load(ordering: .acquiring) != nextAvailable }

    /// Takes the next request into `chain`; false when there is none.
    ///
    /// - Throws: `VirtioError` when the driver broke a rule; the queue must not be used any more.
    func pop(into chain: DescriptorChain) throws(VirtioError) -> Bool {
        let offered = available.atomic(2, as: UInt16.self).pointee.load(ordering: .acquiring)
        seenAvailable = offered
        let pending = offered &- nextAvailable
        if pending == 0 { return false }
        guard pending <= size else { throw .indexJump(queue: index, from: nextAvailable, to: offered) }
        let slot = 4 + 2 * Int(nextAvailable & mask)
        let head = available.atomic(slot, as: UInt16.self).pointee.load(ordering: .relaxed)
        guard head < size else { throw .badDescriptor(queue: index, number: UInt32(head)) }
        chain.begin(head: head, lazy: memory.lazy)
        defer { turn?.spend(DeviceTurn.requestCost + chain.descriptors * DeviceTurn.descriptorCost) }
        try walk(descriptors, limit: Int(size), from: head, into: chain, nested: false)
        nextAvailable &+= 1
        return true
    }

    /// Gives the requests taken last back, as if they had not been taken.
    func undoPop(_ count: Int = 1) {
        let underWay = nextAvailable &- nextUsed
        precondition(count >= 0 && count <= Int(underWay), "that many requests were not taken")
        nextAvailable &-= UInt16(count)
    }

    /// Follows a chain through one table.
    ///
    /// Every descriptor is read once; `limit` bounds loops.
    private func walk(
        _ table: GuestWindow, limit: Int, from first: UInt16, into chain: DescriptorChain, nested: Bool
    ) throws(VirtioError) {
        var number = first
        var visited = 0
        while true {
            visited += 1
            chain.descriptors += 1
            guard visited <= limit else { throw .chainTooLong(queue: index, limit: limit) }
            guard Int(number) < table.count / 16 else { throw .badDescriptor(queue: index, number: UInt32(number)) }
            let descriptor = Descriptor(table, Int(number))
            if descriptor.isIndirect {
                guard hasIndirect, !nested, !descriptor.hasNext else { throw .badIndirectTable(queue: index) }
                return try walkIndirect(descriptor, into: chain)
            }
            // Contents are fetched when they are used, or the device could be kept busy with offers alone.
            guard let window = try? memory.place(descriptor.address, descriptor.count) else {
                throw .badAddress(queue: index, what: "a buffer", address: descriptor.address, count: descriptor.count)
            }
            try chain.append(window, isWritable: descriptor.isWritable, queue: index)
            guard descriptor.hasNext else { return }
            number = descriptor.next
        }
    }

    private func walkIndirect(_ descriptor: Descriptor, into chain: DescriptorChain) throws(VirtioError) {
        let entries = min(descriptor.count / 16, DescriptorChain.segmentsMax)
        guard descriptor.count % 16 == 0, entries > 0, descriptor.address.rawValue % 8 == 0,
            let table = try? memory.window(descriptor.address, entries * 16)
        else { throw .badIndirectTable(queue: index) }
        try walk(table, limit: entries, from: 0, into: chain, nested: true)
    }

    // MARK: - Giving requests back

    /// Fills the next used-ring entry; the driver sees it after `publish`.
    func complete(head: UInt16, written: Int) {
        let slot = 4 + 8 * Int(nextUsed & mask)
        used.atomic(slot, as: UInt32.self).pointee.store(UInt32(head).littleEndian, ordering: .relaxed)
        used.atomic(slot + 4, as: UInt32.self).pointee.store(UInt32(truncatingIfNeeded: written).littleEndian, ordering: .relaxed)
        nextUsed &+= 1
    }

    /// Shows all completed requests to the driver; answers whether it wants an interrupt (virtio 1.2, section 2.7.7).
    func publish() -> Bool {
        used.atomic(2, as: UInt16.self).pointee.store(nextUsed, ordering: .releasing)
        used.markDirty()
        // The index must be visible before the driver's wish is read, or both sides may fall asleep.
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        defer { announcedUsed = nextUsed }
        guard let announced = announcedUsed else { return true }
        if announced == nextUsed { return false }
        if hasEventIndex {
            let wanted = available.atomic(4 + 2 * Int(size), as: UInt16.self).pointee.load(ordering: .relaxed)
            return nextUsed &- wanted &- 1 < nextUsed &- announced
        }
        return available.atomic(0, as: UInt16.self).pointee.load(ordering: .relaxed) & 1 == 0
    }

    // MARK: - Notifications

    /// Asks the driver to notify of the next request; answers whether one came in meanwhile, which may go unnotified.
    func enableNotifications() -> Bool {
        askForNotification(after: nextAvailable)
        return hasPending
    }

    /// Asks the driver to notify of the next request although some lie there untaken, because they are too few.
    ///
    /// Waiting for the index after the ones taken would be waiting for what has happened already, for ever.
    /// - Returns: whether more came in since `pop` looked last, which may go unnotified.
    func enableNotificationsOfMore() -> Bool {
        askForNotification(after: seenAvailable)
        return available.atomic(2, as: UInt16.self).pointee.load(ordering: .acquiring) != seenAvailable
    }

    private func askForNotification(after index: UInt16) {
        if hasEventIndex {
            used.atomic(4 + 8 * Int(size), as: UInt16.self).pointee.store(index, ordering: .relaxed)
        } else {
            used.atomic(0, as: UInt16.self).pointee.store(0, ordering: .relaxed)
        }
        used.markDirty()
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }

    /// Tells the driver that notifications are not needed for now.
    ///
    /// With event indexes that is so by itself.
    func disableNotifications() {
        if hasEventIndex { return }
        used.atomic(0, as: UInt16.self).pointee.store(1, ordering: .relaxed)
        used.markDirty(from: 0, length: 2)
    }
}

/// One descriptor, read once (virtio 1.2, section 2.7.5).
private struct Descriptor {
    let address: GuestAddress
    private let rest: UInt64

    init(_ table: GuestWindow, _ number: Int) {
        address = GuestAddress(table.atomic(16 * number, as: UInt64.self).pointee.load(ordering: .relaxed))
        rest = table.atomic(16 * number + 8, as: UInt64.self).pointee.load(ordering: .relaxed)
    }

    var count: Int { Int(UInt32(truncatingIfNeeded: rest)) }
    var hasNext: Bool { rest & (1 << 32) != 0 }
    var isWritable: Bool { rest & (2 << 32) != 0 }
    var isIndirect: Bool { rest & (4 << 32) != 0 }
    var next: UInt16 { UInt16(truncatingIfNeeded: rest >> 48) }
}
