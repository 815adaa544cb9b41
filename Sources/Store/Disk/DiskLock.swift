/// Names of the locks of a store; each is a byte, or some, beyond any disk's end.
public enum DiskLock: Hashable, Sendable {
    /// Shared: an epoch is in flight. Exclusive: the collector changes phase.
    case gate
    /// Keeps new epochs from overtaking a collector that waits for the gate.
    case turnstile
    /// Segments are being claimed or given back.
    case allocation
    /// One collector at a time.
    case collection
    /// Slots are being given to new streams or taken from removed ones.
    case slots
    /// The writer of the stream in a slot.
    case stream(slot: UInt32)
    /// Shared: somebody uses the shared memory with this number (1…2^32 - 2).
    case sharedMemory(UInt32)
    /// Exclusive: nobody uses any other shared memory than this.
    case otherSharedMemories(than: UInt32)

    /// First of the bytes: far beyond 2^54, where the largest store ends.
    private static let base: UInt64 = 1 << 60

    /// The bytes that stand for the lock: one or two ranges, none of them empty.
    public var ranges: [Range<UInt64>] {
        switch self {
        case .gate: Self.byte(0)
        case .turnstile: Self.byte(1)
        case .allocation: Self.byte(2)
        case .collection: Self.byte(3)
        case .slots: Self.byte(4)
        case .stream(let slot): Self.byte(1 << 32 + UInt64(slot))
        case .sharedMemory(let number): Self.byte(1 << 33 + UInt64(number))
        case .otherSharedMemories(let number):
            [
                Self.base + 1 << 33..<Self.base + 1 << 33 + UInt64(number),
                Self.base + 1 << 33 + UInt64(number) + 1..<Self.base + 1 << 33 + 1 << 32,
            ].filter { !$0.isEmpty }
        }
    }

    private static func byte(_ number: UInt64) -> [Range<UInt64>] { [base + number..<base + number + 1] }
}
