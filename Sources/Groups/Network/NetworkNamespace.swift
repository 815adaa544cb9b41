internal import CLinux
public import Linux
import Synchronization

/// The private network namespace of a VMM process: the group's TAP device is in it, nothing is configured on the host.
public enum NetworkNamespace {
    /// Moves the whole process into a new namespace; listeners made before stay where they were.
    ///
    /// Must be called while the process has one thread. An ordinary user gets a user namespace of its own as well, in
    /// which it may configure the network and is otherwise who it was.
    /// - Throws: `SystemError` when the kernel does not allow it.
    public static func enter() throws(SystemError) {
        if hasEntered.load(ordering: .relaxed) { return }
        if clinux_unshare(CLONE_NEWNET) == 0 { return }
        let user = getuid()
        let group = getgid()
        try systemCall("create", "a network namespace") { clinux_unshare(CLONE_NEWUSER | CLONE_NEWNET) }
        try write("deny", to: "/proc/self/setgroups")
        try write("\(user) \(user) 1", to: "/proc/self/uid_map")
        try write("\(group) \(group) 1", to: "/proc/self/gid_map")
    }

    /// Moves the process while it still has one thread; where that fails, `enter` says why when the namespace is needed.
    static func enterAhead() {
        if (try? enter()) != nil { hasEntered.store(true, ordering: .relaxed) }
    }

    private static let hasEntered = Atomic(false)

    private static func write(_ text: String, to path: String) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        try DescriptorIO.writeAll(Array(text.utf8), to: file.rawValue, what: path)
    }
}
