import Linux
import Synchronization

extension MMIOTransport {
    func save() -> VirtioDeviceState {
        lock.withLock { _ in
            var saved = queues
            for (index, queue) in link.queues.enumerated() {
                guard let queue else { continue }
                saved[index].nextAvailable = queue.nextAvailable
                saved[index].nextUsed = queue.nextUsed
            }
            return Device.wrap(
                TransportState(
                    status: status.rawValue, deviceFeaturesSelect: deviceFeaturesSelect, driverFeaturesSelect: driverFeaturesSelect,
                    driverFeatures: driverFeatures, queueSelect: queueSelect,
                    configurationChangePending: page[MMIORegister.interruptStatus] & InterruptReason.configuration != 0,
                    configurationGeneration: page[MMIORegister.configurationGeneration], queues: saved, device: device.save()))
        }
    }

    func load(_ state: VirtioDeviceState) throws(DeviceStateError) {
        try lock.withLock { _ throws(DeviceStateError) in
            reset()
            guard let state = Device.unwrap(state) else { throw refusal("it belongs to another kind of device") }
            do throws(DeviceStateError) {
                try check(state)
                try device.load(state.device)
                try adopt(state)
            } catch {
                reset()
                throw error
            }
        }
    }

    func kick() {
        for notifier in queueNotifiers { notifier.signal() }
        link.interrupt.trigger()
    }

    private func refusal(_ reason: String) -> DeviceStateError { DeviceStateError(device: "\(deviceType)", reason: reason) }

    /// The same rules as for a driver that writes the registers one by one.
    private func check(_ state: TransportState<Device.State>) throws(DeviceStateError) {
        guard state.version == TransportState<Device.State>.currentVersion else { throw refusal("version \(state.version) is unknown") }
        let status = VirtioStatus(rawValue: state.status)
        guard status.isSubset(of: .all) else { throw refusal("status 0x\(String(state.status, radix: 16)) has unknown bits") }
        let steps: [VirtioStatus] = [.acknowledge, .driver, .featuresOK, .driverOK]
        for (earlier, later) in zip(steps, steps.dropFirst()) where status.contains(later) && !status.contains(earlier) {
            throw refusal("status 0x\(String(state.status, radix: 16)) skips a step")
        }
        driverFeatures = state.driverFeatures
        if status.contains(.featuresOK), !featuresAreAcceptable { throw refusal("it has features that this device does not offer") }
        guard state.queues.count == queues.count else { throw refusal("it has \(state.queues.count) queues instead of \(queues.count)") }
        for (index, queue) in state.queues.enumerated() where queue.isReady {
            guard status.contains(.featuresOK) else { throw refusal("queue \(index) is ready too early") }
            do throws(VirtioError) {
                _ = try VirtQueue(
                    index: index, setup: queue, sizeMax: device.queueSizeMaxima[index], features: state.driverFeatures, memory: link.memory)
            } catch { throw refusal("\(error)") }
        }
    }

    private func adopt(_ state: TransportState<Device.State>) throws(DeviceStateError) {
        status = VirtioStatus(rawValue: state.status)
        deviceFeaturesSelect = state.deviceFeaturesSelect
        driverFeaturesSelect = state.driverFeaturesSelect
        driverFeatures = state.driverFeatures
        queueSelect = state.queueSelect
        queues = state.queues
        page[MMIORegister.configurationGeneration] = state.configurationGeneration
        page.setConfiguration(device.configuration)
        page[MMIORegister.interruptStatus] = state.configurationChangePending ? InterruptReason.configuration : 0
        if isActive {
            do throws(VirtioError) { try activate() } catch { throw refusal("\(error)") }
        }
        showRegisters()
    }
}
