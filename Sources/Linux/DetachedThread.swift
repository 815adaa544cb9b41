internal import CLinux

/// A thread that nobody waits for: short blocking work beside an event loop.
public enum DetachedThread {
    private final class Work: Sendable {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// Runs a closure on a new thread.
    ///
    /// - Parameter name: shown by `ps -L` and debuggers; the kernel keeps 15 bytes.
    /// - Throws: `SystemError` when the process has no room for threads.
    public static func start(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let argument = Unmanaged.passRetained(Work(name: name, body: body))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { @Sendable argument in
                guard let argument else { return nil }
                let work = Unmanaged<Work>.fromOpaque(argument).takeRetainedValue()
                _ = work.name.withCString { clinux_set_thread_name($0) }
                work.body()
                return nil
            }, argument.toOpaque())
        guard result == 0 else {
            argument.release()
            throw SystemError("start", "thread \(name)", errno: Errno(rawValue: result))
        }
        pthread_detach(thread)
    }
}
