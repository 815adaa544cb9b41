internal import NIOPosix

/// Runs work that waits for the disk on threads of its own, so that the few threads that answer requests never do.
struct FileWork: Sendable {
    let pool: NIOThreadPool

    /// Runs a closure on one of the threads.
    func run<Value: Sendable, Failure: Error>(_ body: @escaping @Sendable () throws(Failure) -> Value) async throws(Failure) -> Value {
        let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Value, Failure>, Never>) in
            pool.submit { _ in
                do throws(Failure) { continuation.resume(returning: .success(try body())) } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }
}
