import Dispatch
import Synchronization

/// Lets a command, which runs on a plain thread, wait for asynchronous work.
enum AsyncBridge {
    /// Runs a closure to its end.
    static func wait<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value {
        let box = Box<Value>()
        Task.detached {
            let value = await body()
            box.value.withLock { $0 = value }
            box.done.signal()
        }
        while true {
            if let value = box.value.withLock({ $0 }) { return value }
            box.done.wait()
        }
    }

    private final class Box<Value: Sendable>: Sendable {
        let value = Mutex<Value?>(nil)
        let done = DispatchSemaphore(value: 0)
    }
}
