public import Store

/// Which operations of a simulated disk fail, and how.
public struct FaultPlan: Sendable {
    /// How an operation fails.
    public enum Kind: Sendable, Hashable {
        /// With an error number, such as `EIO` or `ENOSPC`; nothing is transferred.
        case code(Int32)
        /// Half of the sectors are transferred, then `DiskError.code` is 0 (a flush or discard fails with `EIO`).
        case short
        /// Half of the sectors are transferred, then there is an error with this number; what transfers nothing fails with it.
        case partial(Int32)
    }
    /// Operations counted when no plan is set.
    public static let counted: Set<DiskError.Operation> = [.read, .write, .flush, .discard, .lock]

    /// The first operation that fails, from 1.
    public let index: Int
    /// How.
    public let kind: Kind
    /// Whether all operations after it fail, too.
    public let isForEver: Bool
    /// The operations that count and can fail.
    public let operations: Set<DiskError.Operation>

    /// Fails the operation with number `index` (from 1) among the given kinds of operations.
    public init(index: Int, kind: Kind, isForEver: Bool, operations: Set<DiskError.Operation> = counted) {
        self.index = index
        self.kind = kind
        self.isForEver = isForEver
        self.operations = operations
    }
}
