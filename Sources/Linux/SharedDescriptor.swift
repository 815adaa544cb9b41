/// An owned descriptor that several values keep open together; closed when the last one lets go.
public final class SharedDescriptor: Sendable {
    private let owned: OwnedDescriptor

    /// The descriptor's number, valid as long as this owner lives.
    public var rawValue: Int32 { owned.rawValue }

    /// Takes over an owned descriptor.
    public init(_ owned: consuming OwnedDescriptor) { self.owned = owned }
}
