import CLinux
import Dispatch
import FoundationEssentials
import Functions
import Groups
import Linux
import Store
import Synchronization

/// Builds functions, each in a process of its own (`aurora build-function`), and removes their snapshots.
final class BuildProcess: FunctionBuilder {
    /// The longest line of a report: the log in it is bounded.
    private static let lineBytesMax = 4 << 20
    /// The longest a build may take, the making of images included.
    private static let secondsMax: Int64 = 1_800
    private let data: DataDirectory

    /// Builds into the store of a data directory.
    init(_ data: DataDirectory) { self.data = data }

    func build(
        _ plan: FunctionPlan, progress: @escaping @Sendable (BuildStep) -> Void
    ) async throws(FunctionBuildError) -> BuiltFunction {
        let result: Result<BuiltFunction, FunctionBuildError> = await onThread("builder") {
            do throws(FunctionBuildError) {
                return .success(try BuildProcess.run(plan, progress))
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    func remove(_ function: String) async throws(FunctionBuildError) {
        let path = data.storePath
        let result: Result<Void, FunctionBuildError> = await onThread("builder") {
            do {
                guard let access = try StoreAccess.openIfPresent(path) else { return .success(()) }
                try BuildFunction.removeRevisions(of: function, but: nil, keeping: 0, access)
                return .success(())
            } catch { return .failure(.store("\(error)")) }
        }
        try result.get()
    }

    /// Runs blocking work on a thread of its own.
    private func onThread<Value: Sendable>(
        _ name: String, _ body: @escaping @Sendable () -> Result<Value, FunctionBuildError>
    ) async -> Result<Value, FunctionBuildError> {
        await withCheckedContinuation { continuation in
            do throws(SystemError) {
                try DetachedThread.start(name) { @Sendable in continuation.resume(returning: body()) }
            } catch { continuation.resume(returning: .failure(.machine("\(error)"))) }
        }
    }

    private static func run(_ plan: FunctionPlan, _ progress: (BuildStep) -> Void) throws(FunctionBuildError) -> BuiltFunction {
        let order = try Result { try JSONEncoder().encode(plan) }.mapError { FunctionBuildError.invalidPlan("\($0)") }.get()
        let child: ChildOutput
        do throws(SystemError) {
            child = try ChildOutput(["/proc/self/exe", "build-function", "--with-parent"], name: "aurora", order: Array(order))
        } catch { throw .machine("\(error)") }
        defer { child.end() }
        var line: [UInt8] = []
        let deadline = clinux_monotonic_milliseconds() + secondsMax * 1_000
        while true {
            let bytes: [UInt8]
            do throws(SystemError) { bytes = try child.read(65_536, until: deadline) } catch {
                throw .machine(error.errno.rawValue == ETIMEDOUT ? "it was not built within \(secondsMax) s" : "\(error)")
            }
            guard !bytes.isEmpty else { throw .machine("the process that builds ended: \(child.failure() ?? "it said nothing")") }
            for byte in bytes {
                guard byte == 10 else {
                    line.append(byte)
                    guard line.count <= lineBytesMax else { throw .machine("the process that builds says too much") }
                    continue
                }
                defer { line.removeAll(keepingCapacity: true) }
                switch try? JSONDecoder().decode(BuildReport.self, from: Data(line)) {
                case .step(let step): progress(step)
                case .done(let built): return built
                case .failed(let error): throw error
                case nil: throw .machine("the process that builds says something else")
                }
            }
        }
    }
}
