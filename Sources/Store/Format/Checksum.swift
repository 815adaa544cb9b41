internal import CStore

/// A 128-bit XXH3 checksum, kept by whoever refers to the bytes.
///
/// It finds damage. It is not proof against somebody who forges collisions: sharing pages always compares their bytes.
public struct Checksum: Hashable, Sendable {
    /// Lower and upper half, in the order in which they lie on the disk (little-endian).
    public var low: UInt64
    /// Upper half.
    public var high: UInt64

    /// Takes a checksum as it lies on the disk.
    public init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }

    /// The checksum of some bytes.
    ///
    /// - Parameter seed: distinguishes what must not be taken for each other (structures, places); 0 for pages.
    @inline(__always)
    public init(of bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) {
        let hash = cstore_xxh3_128(bytes.baseAddress, bytes.count, seed)
        low = hash.low64
        high = hash.high64
    }
}
