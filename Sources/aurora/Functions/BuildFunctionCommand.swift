import ArgumentParser
import CLinux
import FoundationEssentials
import Functions
import Groups
import Linux
import Store

/// What the process that builds a function says: one line of JSON each.
enum BuildReport: Codable {
    /// It has come to a step.
    case step(BuildStep)
    /// The snapshot is made.
    case done(BuiltFunction)
    /// It could not be made.
    case failed(FunctionBuildError)
}

/// The process that builds one function; started by the gateway.
///
/// The machine in it runs a stranger's code: it is no part of the gateway, and ends with it.
struct BuildFunctionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build-function", abstract: "Make a function's snapshot from a plan on standard input; reports on standard output.",
        shouldDisplay: false)
    /// The most bytes of a plan: environments are small.
    static let planBytesMax = 1 << 20

    /// Set by whoever wants the process to end with it.
    @Flag(help: "End when the parent ends.") var withParent = false

    func run() throws {
        if withParent { _ = clinux_die_with_parent(getppid()) }
        clinux_ignore_signal(SIGPIPE)
        _ = clinux_descriptor_limit_raise()
        do {
            let plan = try JSONDecoder().decode(FunctionPlan.self, from: Data(try BuildFunctionCommand.readInput()))
            // What is printed by the libraries below must not get between the lines of the report.
            let built = try BuildFunction(data: CommandContext.data, plan: plan) { BuildFunctionCommand.write(.step($0)) }.run()
            BuildFunctionCommand.write(.done(built))
        } catch {
            BuildFunctionCommand.write(.failed(BuildFunctionCommand.explained(error)))
            throw ExitCode(ExitCodes.failure)
        }
    }

    /// Any failure of a build as one of the builder's.
    static func explained(_ error: any Error) -> FunctionBuildError {
        switch error {
        case let error as FunctionBuildError: error
        case let error as StoreError: .store("\(error)")
        default: .machine("\(error)")
        }
    }

    private static func readInput() throws -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let got = try systemCall("read", "the plan") { clinux_read(0, &chunk, 65_536) }
            guard got > 0 else { return bytes }
            bytes += chunk.prefix(got)
            guard bytes.count <= planBytesMax else { throw FunctionBuildError.invalidPlan("it has more than \(planBytesMax >> 20) MiB") }
        }
    }

    private static func write(_ report: BuildReport) {
        guard let line = try? JSONEncoder().encode(report) else { return }
        let bytes = Array(line) + [10]
        _ = clinux_write(1, bytes, bytes.count)
    }
}
