internal import Synchronization

/// Bytes that all connections together may hold.
final class ByteBudget: Sendable {
    private let limit: Int
    private let used = Atomic<Int>(0)

    init(limit: Int) { self.limit = limit }

    /// Bytes taken now.
    var bytesUsed: Int { used.load(ordering: .relaxed) }

    /// Takes bytes; false when there are not so many left.
    func take(_ count: Int) -> Bool {
        let (_, now) = used.wrappingAdd(count, ordering: .relaxed)
        if now <= limit { return true }
        used.wrappingSubtract(count, ordering: .relaxed)
        return false
    }

    /// Gives bytes back.
    func give(_ count: Int) { used.wrappingSubtract(count, ordering: .relaxed) }
}
