internal import CLinux
import Linux

/// The memory of a machine that will go on from a saved state, made before the machine: its pages are fetched from the beginning on.
public final class RestoredMemory: Sendable {
    let mappings: [Mapping]
    /// Fetches the pages; nil where that is not permitted, then all have been read.
    let lazy: LazyMemory?
    /// What it took to make it.
    let nanoseconds: Int64

    /// Makes the memory of a state, and begins to fetch what the policy names.
    ///
    /// Where userfaultfd is not permitted, all pages are read before this returns.
    ///
    /// - Parameters:
    ///   - pages: the contents of `state.memory`; must answer as long as the machine lives.
    ///   - policy: what is fetched when.
    /// - Throws: `MachineError.state` for a layout that no machine has, or pages that cannot be had.
    public init(of state: MachineState, pages: any PageSource, policy: LazyPolicy = LazyPolicy()) throws(MachineError) {
        let begin = clinux_clock_ns(CLOCK_MONOTONIC)
        try state.checkMemory()
        var mappings: [Mapping] = []
        do throws(SystemError) {
            for extent in state.memory { mappings.append(try .anonymous(count: extent.count, what: "guest memory")) }
        } catch { throw .system(error) }
        lazy = try RestoredMemory.watch(mappings, pages, policy)
        self.mappings = mappings
        nanoseconds = clinux_clock_ns(CLOCK_MONOTONIC) - begin
    }

    /// Serves missing pages, or reads all where that is not permitted.
    private static func watch(_ memory: [Mapping], _ pages: any PageSource, _ policy: LazyPolicy) throws(MachineError) -> LazyMemory? {
        do throws(SystemError) { return try LazyMemory(memory, source: pages, policy: policy) } catch {
            guard [.notPermitted, .accessDenied, .noEntry, Errno(rawValue: ENOSYS)].contains(error.errno) else { throw .system(error) }
        }
        do throws(PageSourceError) { try pages.readAll(into: memory) } catch { throw .state("\(error)") }
        return nil
    }
}
