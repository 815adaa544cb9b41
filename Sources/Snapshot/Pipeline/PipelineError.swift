public import AuroraVMM
public import Linux

/// Why a checkpoint could not be made, or the pipeline not be started.
public enum PipelineError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The pipeline was stopped.
    case stopped
    /// The guest has ended.
    case ended(MachineEnd)
    /// There is no backend, or none of this name.
    case noBackend(String?)
    /// There is a backend of this name.
    case nameTaken(String)
    /// A backend failed.
    case backend(BackendError)
    /// A backend was given up because a call of it has not come back: its name, what it was at, and for how many seconds it was waited for.
    case lost(String, BackendStep, seconds: Int)
    /// The machine failed.
    case machine(MachineError)
    /// A system call failed.
    case system(SystemError)
    /// A volume could not be read: which, and why.
    case volume(Int, String)
    /// As many checkpoints are asked for as can be.
    case tooManyRequests
    /// The pipeline lost sight of the request: a fault of Aurora's, which must not leave anybody waiting.
    case forgotten
    /// A backend that begins from a checkpoint came too late: writes were not recorded from the first instruction.
    case notTracked

    /// What failed and what to do.
    public var description: String {
        switch self {
        case .stopped: "The checkpoints of the group were ended."
        case .ended(let end): "The guest has ended: \(end)"
        case .noBackend(nil): "The group has no backend; attach one."
        case .noBackend(let name?): "The group has no backend \(name)."
        case .nameTaken(let name): "The group has a backend \(name) already; detach it or choose another name."
        case .backend(let error): error.description
        case .lost(let name, let step, let seconds):
            "Backend \(name) was given up: for all of \(seconds) s \(step). What was not durable there by then may be lost."
        case .machine(let error): error.description
        case .system(let error): error.description
        case .volume(let map, let reason): "Volume \(map) cannot be read: \(reason)"
        case .tooManyRequests: "Too many checkpoints are asked for at once; wait until some are durable."
        case .forgotten: "The checkpoint was lost sight of, which is a fault of Aurora's; ask again."
        case .notTracked: "A backend can begin from a checkpoint only if the machine was made with its writes recorded."
        }
    }
}
