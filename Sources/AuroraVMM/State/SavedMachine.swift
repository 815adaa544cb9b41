internal import CLinux
import Linux

/// A machine saved to a directory: `state`, and a file for each piece of memory.
///
/// For tests, debugging and benchmarks; the store has better ways.
public struct SavedMachine: Sendable {
    /// The directory.
    public let directory: String
    /// Everything but memory.
    public let state: MachineState

    /// See `RestingMachine.save(into:)`.
    init(_ machine: Machine, in directory: String) throws(MachineError) {
        self.directory = directory
        state = try machine.save()
        let bytes = try state.encoded()
        do throws(SystemError) {
            for (index, region) in machine.memory.regions.enumerated() {
                try MemoryFile.write(region.mapping, to: SavedMachine.memoryPath(directory, index))
            }
            let file = try OwnedDescriptor.open(SavedMachine.statePath(directory), O_WRONLY | O_CREAT | O_TRUNC)
            try MemoryFile.write(bytes, to: file, SavedMachine.statePath(directory))
        } catch { throw .system(error) }
    }

    /// Reads what `RestingMachine.save(into:)` wrote.
    ///
    /// - Throws: `MachineError` for a directory that is not a saved machine.
    public init(directory: String) throws(MachineError) {
        self.directory = directory
        let bytes: [UInt8]
        do throws(SystemError) {
            let path = SavedMachine.statePath(directory)
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            let number = file.rawValue
            let size = try systemCall("tell the size of", path) { Int(lseek(number, 0, SEEK_END)) }
            guard size > 0, size <= MachineState.encodedBytesMax else {
                throw SystemError("use", "\(path) of \(size) bytes", errno: .invalidArgument)
            }
            var buffer = [UInt8](repeating: 0, count: size)
            let count = try systemCall("read", path) { buffer.withUnsafeMutableBytes { clinux_pread(number, $0.baseAddress, size, 0) } }
            bytes = Array(buffer.prefix(count))
        } catch { throw .system(error) }
        state = try MachineState(encoded: bytes)
    }

    /// Makes a machine that goes on from here, on private copies of the memory files; at rest until `start()`.
    ///
    /// - Throws: `MachineError` saying what does not fit.
    public func machine(_ configuration: MachineConfiguration) throws(MachineError) -> Machine {
        var memory: [Mapping] = []
        do throws(SystemError) {
            for (index, extent) in state.memory.enumerated() {
                memory.append(try MemoryFile.map(SavedMachine.memoryPath(directory, index), count: extent.count))
            }
        } catch { throw .system(error) }
        return try Machine(configuration, restoring: state, memory: memory)
    }

    private static func memoryPath(_ directory: String, _ index: Int) -> String { "\(directory)/memory.\(index)" }
    private static func statePath(_ directory: String) -> String { "\(directory)/state" }
}
