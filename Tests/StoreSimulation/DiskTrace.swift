/// What happened to a simulated disk: plays back what may be found after a power cut.
public struct DiskTrace: Sendable {
    /// What a power cut does to the writes that no flush covers.
    public enum Loss: CaseIterable, Sendable {
        /// All are lost.
        case all
        /// None is lost: the order of the program.
        case none
        /// Only the last one is lost in part: some of its sectors arrive.
        case tornLast
        /// Each arrives or not, at random.
        case some
        /// Each sector of each arrives or not, at random.
        case torn
        /// Only later ones arrive: the reverse of the program's order.
        case reversed
    }

    /// The content before the first event.
    public let initial: DiskImage
    /// The events in order.
    public let events: [SimulatedDisk.Event]

    /// A trace made up or changed by a test.
    public init(initial: DiskImage, events: [SimulatedDisk.Event]) {
        self.initial = initial
        self.events = events
    }

    /// Calls the body for a power cut after each event (and before the first), with images of every kind of loss.
    ///
    /// - Parameters:
    ///   - variants: how many images of each random kind of loss are made for a cut.
    ///   - body: gets the number of events before the cut, the loss and the content found afterwards.
    public func forEachCut<G: RandomNumberGenerator>(
        losses: [Loss] = Loss.allCases, variants: Int = 1, using generator: inout G,
        _ body: (_ cut: Int, _ loss: Loss, _ image: DiskImage) throws -> Void
    ) rethrows {
        var durable = initial
        var pending: [SimulatedDisk.Event] = []
        for cut in 0...events.count {
            if cut > 0 {
                switch events[cut - 1] {
                case .flush:
                    for event in pending { durable.apply(event) }
                    pending = []
                case .settle(let offset, let count):
                    let isSettled = { (event: SimulatedDisk.Event) -> Bool in
                        guard case .write(let start, let bytes) = event else { return false }
                        return start >= offset && start + UInt64(bytes.count) <= offset + count
                    }
                    for event in pending where isSettled(event) { durable.apply(event) }
                    pending.removeAll(where: isSettled)
                case .lost(let offset, let count):
                    pending.removeAll { event in
                        guard case .write(let start, let bytes) = event else { return false }
                        return start >= offset && start + UInt64(bytes.count) <= offset + count
                    }
                // A kernel may drop dirty pages whose flush failed: they stay in doubt until they are written again.
                case .failedFlush: pending = pending.filter { _ in Bool.random(using: &generator) }
                default: pending.append(events[cut - 1])
                }
            }
            for loss in losses {
                let isRandom = loss == .some || loss == .torn || loss == .tornLast
                if pending.isEmpty, loss != .all { continue }
                for _ in 0..<(isRandom ? variants : 1) {
                    try body(cut, loss, Self.image(durable, pending, loss, &generator))
                }
            }
        }
    }

    private static func image<G: RandomNumberGenerator>(
        _ durable: DiskImage, _ pending: [SimulatedDisk.Event], _ loss: Loss, _ generator: inout G
    ) -> DiskImage {
        var image = durable
        switch loss {
        case .all: break
        case .none: for event in pending { image.apply(event) }
        case .tornLast:
            for event in pending.dropLast() { image.apply(event) }
            if let last = pending.last { image.applyTorn(last, &generator) }
        case .some: for event in pending.shuffled(using: &generator) where Bool.random(using: &generator) { image.apply(event) }
        case .torn: for event in pending.shuffled(using: &generator) { image.applyTorn(event, &generator) }
        case .reversed: for event in pending.suffix(max(1, pending.count / 2)).reversed() { image.apply(event) }
        }
        return image
    }
}

extension DiskImage {
    mutating func apply(_ event: SimulatedDisk.Event) {
        switch event {
        case .write(let offset, let bytes): write(bytes, at: offset)
        case .discard(let offset, let count): discard(at: offset, count: count)
        case .flush, .failedFlush, .settle, .lost: break
        }
    }

    mutating func applyTorn<G: RandomNumberGenerator>(_ event: SimulatedDisk.Event, _ generator: inout G) {
        guard case .write(let offset, let bytes) = event else { return apply(event) }
        var done = 0
        while done < bytes.count {
            let count = min(512 - Int((offset + UInt64(done)) % 512), bytes.count - done)
            if Bool.random(using: &generator) {
                bytes.withUnsafeBytes { _ = write(UnsafeRawBufferPointer(rebasing: $0[done..<done + count]), at: offset + UInt64(done)) }
            }
            done += count
        }
    }
}
