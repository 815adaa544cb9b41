internal import CLinux

extension MachineConfiguration {
    /// The configuration with its memory rounded up to whole large pages.
    ///
    /// - Throws: `MachineError.configuration` when the memory is below the minimum or above the host's.
    func checked() throws(MachineError) -> MachineConfiguration {
        guard memoryBytes >= MachineConfiguration.memoryBytesMin else {
            throw .configuration(
                "\(memoryBytes >> 20) MiB of memory are too few; a guest needs \(MachineConfiguration.memoryBytesMin >> 20) MiB at least")
        }
        let host = sysconf(Int32(_SC_PHYS_PAGES)) * pageBytes
        guard memoryBytes <= host else {
            throw .configuration("\(memoryBytes >> 20) MiB of memory are more than this host's \(host >> 20) MiB")
        }
        var result = self
        result.memoryBytes = (memoryBytes + MachineConfiguration.memoryAlignment - 1) & ~(MachineConfiguration.memoryAlignment - 1)
        return result
    }
}
