/// An address in the guest-physical address space.
///
/// Everything a guest says about addresses is hostile, so arithmetic is checked: `advanced(by:)` answers nil instead of
/// wrapping.
public struct GuestAddress: RawRepresentable, Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// Bytes from the start of the guest-physical address space.
    public var rawValue: UInt64

    /// Wraps a guest-physical address.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Wraps a guest-physical address.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The address `count` bytes further, or nil where that does not fit 64 bits.
    public func advanced(by count: UInt64) -> GuestAddress? {
        let (sum, overflow) = rawValue.addingReportingOverflow(count)
        return overflow ? nil : GuestAddress(sum)
    }

    /// Orders addresses by their number.
    public static func < (left: GuestAddress, right: GuestAddress) -> Bool { left.rawValue < right.rawValue }

    /// The address in hexadecimal.
    public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// The size of a page, in bytes, of guests and of this store.
public let pageBytes = 4096
