internal import CLinux

/// Has the kernel map each page of a file's mapping by itself as long as this value lives, instead of sixteen at the touch of one.
///
/// What is mapped afterwards is what was touched. Done by watching the ranges for writes with a userfaultfd that nobody reads and that
/// protects nothing. Source: `uffd_disable_fault_around` of Linux, since 6.7 for private mappings of files.
public final class SingleFaults: Sendable {
    private let descriptor: OwnedDescriptor

    /// Begins with whole mappings; pages that are mapped already stay.
    ///
    /// - Throws: `SystemError` when the kernel is older, or an ordinary user may not.
    public init(_ mappings: [Mapping]) throws(SystemError) {
        var result = cuffd_open()
        if result == -Int(EPERM) { result = cuffd_open_device() }
        descriptor = OwnedDescriptor(adopting: Int32(try systemCall("open", "/dev/userfaultfd") { result }))
        let number = descriptor.rawValue
        try systemCall("agree on the version of", "userfaultfd") { cuffd_agree_asynchronous(number) }
        for mapping in mappings {
            try systemCall("watch", "the memory of a launch image") { cuffd_register_writes(number, mapping.base, UInt64(mapping.count)) }
        }
    }
}
