internal import AuroraVMM
internal import CLinux
import Synchronization

/// Keeps the last epochs of a group in memory: for rollback, and for tests.
///
/// There is one whole image, the oldest epoch kept; each later epoch has the pages it changed. When there are too many epochs,
/// or too many bytes, the oldest difference goes into the image.
///
/// `@unchecked Sendable`: everything is under one lock; pages are written once, before they can be seen.
public final class MemoryBackend: Backend, @unchecked Sendable {
    /// How much is kept.
    public struct Limits: Hashable, Sendable {
        /// Epochs that can be given back, one at least.
        public var epochs: Int
        /// Bytes of pages beyond which the oldest differences are merged; the whole image alone may be more.
        public var bytes: Int

        /// Limits.
        public init(epochs: Int = 16, bytes: Int = 1 << 30) {
            self.epochs = max(1, epochs)
            self.bytes = bytes
        }
    }

    /// A page's contents, immutable and shared; nil stands for a zero page.
    typealias Page = [UInt8]?

    struct Kept {
        let number: EpochNumber
        let epoch: EpochRecord
        var pages: [PageKey: Page]
    }

    private struct State {
        var epochs: [Kept] = []
        var staged: [PageKey: Page] = [:]
        var bytes = 0
    }

    /// Its name.
    public let name: String
    private let limits: Limits
    private let state = Mutex(State())
    private static let zeroPage = [UInt8](repeating: 0, count: pageBytes)

    /// An empty backend.
    public init(name: String = "memory", limits: Limits = Limits()) {
        self.name = name
        self.limits = limits
    }

    /// Keeps pages ahead of their epoch.
    public func stage(_ pages: PageSet) throws(BackendError) {
        let copies = MemoryBackend.copies(pages)
        state.withLock { $0.staged.merge(copies) { $1 } }
    }

    /// Keeps an epoch.
    public func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError) {
        let copies = MemoryBackend.copies(epoch.pages)
        try state.withLock { (state: inout State) throws(BackendError) in
            guard state.epochs.last?.number == previous else {
                throw BackendError(
                    backend: name,
                    reason: "epoch \(epoch.number) follows \(previous.map(\.description) ?? "nothing"), "
                        + "the last one here is \(state.epochs.last?.number.description ?? "none")")
            }
            var pages = state.staged
            state.staged = [:]
            pages.merge(copies) { $1 }
            state.bytes += MemoryBackend.bytes(pages)
            state.epochs.append(Kept(number: epoch.number, epoch: EpochRecord(epoch), pages: pages))
            while state.epochs.count > 1, state.epochs.count > limits.epochs || state.bytes > limits.bytes { merge(&state) }
        }
    }

    /// Nothing is more durable than this memory.
    public func flush() throws(BackendError) {}

    /// The epochs that can be given back, oldest first.
    public var epochs: [EpochRecord] { state.withLock { $0.epochs.map(\.epoch) } }

    /// Bytes of pages kept.
    public var bytes: Int { state.withLock { $0.bytes } }

    /// Calls `body` with every page of an epoch that is not zero, in no order.
    ///
    /// - Returns: false when the epoch is not kept.
    public func withPages(at number: EpochNumber, _ body: (PageKey, UnsafeRawBufferPointer) -> Void) -> Bool {
        // Pages are shared, not copied; the lock is not held while `body` runs.
        guard
            let maps = state.withLock({ state -> [[PageKey: Page]]? in
                guard let last = state.epochs.lastIndex(where: { $0.number == number }) else { return nil }
                return state.epochs[...last].map(\.pages)
            })
        else { return false }
        // The newest contents of a page count; only the differences are remembered, not the whole image.
        var newer: Set<PageKey> = []
        for (position, map) in maps.enumerated().reversed() {
            for (key, page) in map {
                let isNewest = position > 0 ? newer.insert(key).inserted : !newer.contains(key)
                if isNewest, let page { page.withUnsafeBytes { body(key, $0) } }
            }
        }
        return true
    }

    /// The pages that differ between an epoch and the newest: what a rollback to it has to restore.
    ///
    /// - Returns: nil when the epoch is not kept.
    public func keysChanged(after number: EpochNumber) -> Set<PageKey>? {
        state.withLock { state in
            guard let index = state.epochs.lastIndex(where: { $0.number == number }) else { return nil }
            return state.epochs[(index + 1)...].reduce(into: Set<PageKey>()) { $0.formUnion($1.pages.keys) }
        }
    }

    /// The contents of one page at an epoch; zeros where nothing was ever written, nil when the epoch is not kept.
    public func page(_ key: PageKey, at number: EpochNumber) -> [UInt8]? {
        state.withLock { state in
            guard let last = state.epochs.lastIndex(where: { $0.number == number }) else { return nil }
            for kept in state.epochs[...last].reversed() {
                if let page = kept.pages[key] { return page ?? MemoryBackend.zeroPage }
            }
            return MemoryBackend.zeroPage
        }
    }

    /// Puts the oldest difference into the whole image, in place: costs time by the difference.
    private func merge(_ state: inout State) {
        var image: [PageKey: Page] = [:]
        swap(&image, &state.epochs[0].pages)
        for (key, page) in state.epochs[1].pages {
            if case .some(.some) = image[key] { state.bytes -= pageBytes }
            // A zero page in the whole image is as good as none.
            if page == nil { image.removeValue(forKey: key) } else { image[key] = page }
        }
        state.epochs[1].pages = image
        state.epochs.removeFirst()
    }

    private static func bytes(_ pages: [PageKey: Page]) -> Int { pages.values.reduce(0) { $0 + ($1 == nil ? 0 : pageBytes) } }

    private static func copies(_ pages: PageSet) -> [PageKey: Page] {
        var copies: [PageKey: Page] = [:]
        copies.reserveCapacity(pages.count)
        for index in 0..<pages.count {
            if pages.isZero(at: index) {
                copies[pages[index]] = .some(nil)
                continue
            }
            pages.withBytes(at: index) { bytes in
                let isZero = zeroPage.withUnsafeBytes { zero in
                    guard let left = bytes.baseAddress, let right = zero.baseAddress else { return false }
                    return memcmp(left, right, pageBytes) == 0
                }
                copies[pages[index]] = .some(isZero ? nil : Array(bytes))
            }
        }
        return copies
    }
}
