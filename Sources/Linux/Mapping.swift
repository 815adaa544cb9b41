internal import CLinux

/// The owner of a memory mapping; unmapped when the owner goes away.
///
/// `@unchecked Sendable`: the owner only carries an address and a length that never change. What is written through
/// the pointer is the business of the lowest layers that ask for it (guest memory, the `kvm_run` page, dirty rings).
public final class Mapping: @unchecked Sendable {
    /// The first byte.
    public let base: UnsafeMutableRawPointer
    /// The length in bytes, a multiple of the page size.
    public let count: Int

    private init(base: UnsafeMutableRawPointer, count: Int) {
        self.base = base
        self.count = count
    }

    deinit { munmap(base, count) }

    /// All bytes of the mapping.
    public var bytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: count) }

    /// Maps zeroed private memory that is backed by nothing until it is touched.
    ///
    /// - Throws: `SystemError` when the address space or the commit limit has no room.
    public static func anonymous(count: Int, what: String) throws(SystemError) -> Mapping {
        try map(count: count, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, descriptor: -1, offset: 0, what: what)
    }

    /// Maps a descriptor, shared with the kernel (`kvm_run`, rings) or private (copy-on-write over a file).
    ///
    /// - Throws: `SystemError` naming `what`.
    public static func file(
        _ descriptor: borrowing OwnedDescriptor, count: Int, offset: Int = 0, shared: Bool, writable: Bool = true, what: String
    ) throws(SystemError) -> Mapping {
        try map(
            count: count, flags: shared ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE, descriptor: descriptor.rawValue,
            offset: offset, writable: writable, what: what)
    }

    /// Maps a file privately for reading.
    ///
    /// - Throws: `SystemError` naming `what`.
    public static func file(readOnly descriptor: SharedDescriptor, count: Int, what: String) throws(SystemError) -> Mapping {
        try map(count: count, flags: MAP_PRIVATE | MAP_NORESERVE, descriptor: descriptor.rawValue, offset: 0, writable: false, what: what)
    }

    /// Maps part of a file copy-on-write.
    ///
    /// - Throws: `SystemError` naming `what`.
    public static func file(privately descriptor: SharedDescriptor, count: Int, offset: Int, what: String) throws(SystemError) -> Mapping {
        try map(count: count, flags: MAP_PRIVATE | MAP_NORESERVE, descriptor: descriptor.rawValue, offset: offset, what: what)
    }

    /// Replaces whole pages of a mapping by private pages of a file.
    ///
    /// - Throws: `SystemError`.
    public static func replace(
        _ target: UnsafeMutableRawPointer, count: Int, with file: SharedDescriptor, offset: Int
    ) throws(SystemError) {
        let pointer = mmap(
            target, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file.rawValue, offset)
        guard pointer == target else { throw SystemError("map \(count) bytes of", "a file", errno: Errno(rawValue: clinux_errno())) }
    }

    /// Asks for large pages behind the mapping, where the host has them: fewer, larger faults.
    public func adviseHugePages() { _ = clinux_madvise(base, count, MADV_HUGEPAGE) }

    private static func map(
        count: Int, flags: Int32, descriptor: Int32, offset: Int, writable: Bool = true, what: String
    ) throws(SystemError) -> Mapping {
        let pointer = mmap(nil, count, PROT_READ | (writable ? PROT_WRITE : 0), flags, descriptor, offset)
        guard let pointer, pointer != UnsafeMutableRawPointer(bitPattern: -1) else {
            throw SystemError("map \(count) bytes of", what, errno: Errno(rawValue: clinux_errno()))
        }
        return Mapping(base: pointer, count: count)
    }
}
