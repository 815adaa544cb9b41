internal import CLinux

/// Serves the exits of a vCPU that KVM does not serve itself.
struct ExitHandler: Sendable {
    let platform: any Platform & Sendable
    let memory: GuestMemory
    let devices: DeviceBoard
    let tracker: DirtyTracker
    let console: ConsoleLog

    /// Serves one exit, on the vCPU's thread.
    @inline(__always)
    func handle(_ cpu: VirtualCPU) -> ExitAction {
        let run = cpu.run
        switch Int32(run.pointee.exit_reason) {
        case KVM_EXIT_IO: return platform.handlePort(cpu, memory: memory)
        case KVM_EXIT_MMIO: return handleMMIO(run)
        case KVM_EXIT_INTR, KVM_EXIT_IRQ_WINDOW_OPEN: return .resume
        case KVM_EXIT_DIRTY_RING_FULL: return handleFullRing()
        default: return .end(unexpected(run))
        }
    }

    /// Makes room in the dirty ring; the pages wait in the bitmap for the checkpointer.
    private func handleFullRing() -> ExitAction {
        do throws(MachineError) {
            try tracker.harvest(ringIsFull: true)
            return .resume
        } catch {
            return .end(.failed("\(error)"))
        }
    }

    private func handleMMIO(_ run: UnsafeMutablePointer<kvm_run>) -> ExitAction {
        let address = GuestAddress(run.pointee.mmio.phys_addr)
        let size = Int(min(run.pointee.mmio.len, 8))
        if run.pointee.mmio.is_write != 0 {
            let value = withUnsafeBytes(of: run.pointee.mmio.data) { bytes in
                (0..<size).reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << UInt64(8 * $1) }
            }
            devices.write(address, size: size, value: value)
        } else {
            let value = devices.read(address, size: size)
            withUnsafeMutableBytes(of: &run.pointee.mmio.data) { bytes in
                for index in 0..<size { bytes[index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
            }
        }
        return .resume
    }

    private func unexpected(_ run: UnsafeMutablePointer<kvm_run>) -> MachineEnd {
        switch Int32(run.pointee.exit_reason) {
        case KVM_EXIT_SHUTDOWN: .tripleFault(consoleTail: console.lastLines(20))
        case KVM_EXIT_INTERNAL_ERROR: .failed("KVM could not go on: internal error \(run.pointee.internal.suberror)")
        case KVM_EXIT_FAIL_ENTRY:
            .failed("KVM could not enter the guest: reason 0x\(String(run.pointee.fail_entry.hardware_entry_failure_reason, radix: 16))")
        case KVM_EXIT_SYSTEM_EVENT: .powerOff
        case let reason: .failed("KVM left the guest for reason \(reason)")
        }
    }
}
