public import Linux
import Synchronization

/// The image of a virtio-mmio window's first page, as the guest reads it.
///
/// An exit costs far more than a read, so the page may back a read-only memory slot: the guest then reads registers
/// without leaving, and only its writes trap. The transport keeps the page true after every change.
///
/// `@unchecked Sendable`: words are stored and loaded atomically; the mapping lives as long as this owner.
public final class RegisterPage: @unchecked Sendable {
    /// The mapping that holds the page.
    public let mapping: Mapping
    private let base: UnsafeMutableRawPointer

    /// Uses one page of a mapping.
    public init(_ mapping: Mapping, page: Int = 0) {
        precondition(page >= 0 && page < mapping.count / pageBytes, "the mapping has no such page")
        self.mapping = mapping
        base = mapping.base + page * pageBytes
    }

    /// A page of its own, where no memory slot shows it to the guest.
    ///
    /// - Throws: `SystemError` when there is no memory.
    public convenience init() throws(SystemError) {
        self.init(try .anonymous(count: pageBytes, what: "a device register page"))
    }

    /// One 32-bit register.
    ///
    /// The offset must be aligned and inside the page.
    func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
        precondition(offset >= 0 && offset % 4 == 0 && offset < pageBytes)
        return (base + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    subscript(offset: Int) -> UInt32 {
        get { UInt32(littleEndian: word(offset).pointee.load(ordering: .acquiring)) }
        set { word(offset).pointee.store(newValue.littleEndian, ordering: .releasing) }
    }

    /// Reads 1, 2, 4 or 8 bytes wherever they lie; zero for what is not inside the page.
    func read(offset: Int, size: Int) -> UInt64 {
        guard [1, 2, 4, 8].contains(size), offset >= 0, offset <= pageBytes - size else { return 0 }
        var value: UInt64 = 0
        for index in 0..<size {
            let byte = (base + offset + index).load(as: UInt8.self)
            value |= UInt64(byte) << UInt64(8 * index)
        }
        return value
    }

    /// Replaces the device's configuration space.
    ///
    /// It must fit the page.
    func setConfiguration(_ bytes: [UInt8]) {
        precondition(bytes.count <= pageBytes - MMIORegister.configuration)
        for (index, byte) in bytes.enumerated() {
            (base + MMIORegister.configuration + index).storeBytes(of: byte, as: UInt8.self)
        }
    }
}
