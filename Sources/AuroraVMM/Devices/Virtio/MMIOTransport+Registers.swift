import Linux
import Synchronization

/// The registers.
///
/// What a driver may write depends on how far it is: after DRIVER_OK nothing but status, notifications, acknowledgements
/// and configuration space is accepted until a reset, so that no check made before can be undone.
extension MMIOTransport {
    func read(offset: Int, size: Int) -> UInt64 { page.read(offset: offset, size: size) }

    func write(offset: Int, size: Int, value: UInt64) {
        if offset >= MMIORegister.configuration { return writeConfiguration(offset: offset, size: size, value: value) }
        guard size == 4, let word = UInt32(exactly: value & 0xffff_ffff) else { return }
        switch offset {
        case MMIORegister.queueNotify:
            if let index = Int(exactly: word), index < queueNotifiers.count { queueNotifiers[index].signal() }
        case MMIORegister.interruptAcknowledge:
            // "Used buffer" stays set by design: see `showRegisters`.
            let acknowledged = word & InterruptReason.configuration
            page.word(MMIORegister.interruptStatus).pointee.bitwiseAnd((~acknowledged).littleEndian, ordering: .releasing)
        default:
            lock.withLock { _ in writeLocked(offset, word) }
        }
    }

    private func writeConfiguration(offset: Int, size: Int, value: UInt64) {
        guard [1, 2, 4].contains(size), offset <= pageBytes - size else { return }
        lock.withLock { _ in
            guard isActive else { return }
            device.configurationWritten(offset: offset - MMIORegister.configuration, size: size, value: value, link)
        }
    }

    private func writeLocked(_ offset: Int, _ value: UInt32) {
        if offset == MMIORegister.status { return writeStatus(value) }
        guard status.isDisjoint(with: [.driverOK, .failed, .needsReset]) else { return }
        switch offset {
        case MMIORegister.deviceFeaturesSelect: deviceFeaturesSelect = value
        case MMIORegister.driverFeaturesSelect: driverFeaturesSelect = value
        case MMIORegister.driverFeatures: writeDriverFeatures(value)
        case MMIORegister.queueSelect: queueSelect = value
        default: writeQueue(offset, value)
        }
        showRegisters()
    }

    private func writeDriverFeatures(_ value: UInt32) {
        guard status.contains(.driver), !status.contains(.featuresOK), driverFeaturesSelect < 2 else { return }
        let shift = UInt64(driverFeaturesSelect) * 32
        driverFeatures = driverFeatures & ~(0xffff_ffff << shift) | UInt64(value) << shift
    }

    // MARK: - Queues

    private func writeQueue(_ offset: Int, _ value: UInt32) {
        guard status.contains(.featuresOK), let index = Int(exactly: queueSelect), queues.indices.contains(index) else { return }
        if offset == MMIORegister.queueReady { return writeQueueReady(index, value) }
        guard !queues[index].isReady else { return }
        switch offset {
        case MMIORegister.queueSize: queues[index].size = value
        case MMIORegister.descriptorTableLow: queues[index].descriptorTable.setLow(value)
        case MMIORegister.descriptorTableHigh: queues[index].descriptorTable.setHigh(value)
        case MMIORegister.driverRingLow: queues[index].driverRing.setLow(value)
        case MMIORegister.driverRingHigh: queues[index].driverRing.setHigh(value)
        case MMIORegister.deviceRingLow: queues[index].deviceRing.setLow(value)
        case MMIORegister.deviceRingHigh: queues[index].deviceRing.setHigh(value)
        default: return
        }
    }

    /// A set-up that is wrong is refused at once, not when the first request comes.
    private func writeQueueReady(_ index: Int, _ value: UInt32) {
        guard value & 1 == 1 else {
            queues[index].isReady = false
            return
        }
        do throws(VirtioError) {
            _ = try VirtQueue(
                index: index, setup: queues[index], sizeMax: device.queueSizeMaxima[index], features: driverFeatures, memory: link.memory)
            queues[index].isReady = true
        } catch {
            fail(error)
        }
    }

    // MARK: - Status

    private func writeStatus(_ value: UInt32) {
        if value == 0 { return reset() }
        let wanted = VirtioStatus(rawValue: value).intersection(.settable)
        if wanted.contains(.failed) { status.insert(.failed) }
        // A driver may only add bits, in the order of virtio 1.2, section 3.1.1.
        guard status.isDisjoint(with: [.failed, .needsReset]), wanted.isSuperset(of: status) else { return showRegisters() }
        if wanted.contains(.acknowledge) { status.insert(.acknowledge) }
        if wanted.contains(.driver), status.contains(.acknowledge) { status.insert(.driver) }
        if wanted.contains(.featuresOK), status.contains(.driver), featuresAreAcceptable { status.insert(.featuresOK) }
        if wanted.contains(.driverOK), status.contains(.featuresOK), !status.contains(.driverOK) { start() }
        showRegisters()
    }

    var featuresAreAcceptable: Bool {
        driverFeatures & ~offeredFeatures == 0 && driverFeatures & VirtioFeature.version1 != 0
    }

    private func start() {
        status.insert(.driverOK)
        showRegisters()
        do throws(VirtioError) { try activate() } catch { return fail(error) }
        // Requests may have been put there before anybody listened to the doorbell.
        for notifier in queueNotifiers { notifier.signal() }
    }

    /// Makes the page show all registers as they are now.
    ///
    /// "Used buffer" is permanently pending once the driver is ready: the guest finds it set without asking, and its
    /// acknowledgement means nothing and may be swallowed anywhere. A spurious look at the rings costs the guest little,
    /// an exit to clear a bit costs it much.
    func showRegisters() {
        page[MMIORegister.magic] = MMIORegister.magicValue
        page[MMIORegister.version] = MMIORegister.versionValue
        page[MMIORegister.deviceType] = deviceType.rawValue
        page[MMIORegister.vendor] = MMIORegister.vendorValue
        page[MMIORegister.deviceFeatures] =
            deviceFeaturesSelect < 2 ? UInt32(truncatingIfNeeded: offeredFeatures >> (32 * UInt64(deviceFeaturesSelect))) : 0
        let selected = Int(exactly: queueSelect).flatMap { queues.indices.contains($0) ? $0 : nil }
        page[MMIORegister.queueSizeMax] = selected.map { UInt32(device.queueSizeMaxima[$0]) } ?? 0
        page[MMIORegister.queueReady] = selected.map { queues[$0].isReady ? 1 : 0 } ?? 0
        page[MMIORegister.status] = status.rawValue
        for offset in stride(from: MMIORegister.sharedMemoryLengthLow, through: MMIORegister.sharedMemoryBaseHigh, by: 4) {
            page[offset] = .max  // no shared memory region: section 4.2.2
        }
        if status.contains(.driverOK) {
            page.word(MMIORegister.interruptStatus).pointee.bitwiseOr(InterruptReason.usedBuffer.littleEndian, ordering: .releasing)
        }
    }
}

extension UInt64 {
    fileprivate mutating func setLow(_ value: UInt32) { self = self & 0xffff_ffff_0000_0000 | UInt64(value) }
    fileprivate mutating func setHigh(_ value: UInt32) { self = self & 0xffff_ffff | UInt64(value) << 32 }
}
