internal import AuroraVMM
internal import CLinux
internal import Linux

/// Reading and writing, with the volume's lock held.
extension CheckpointedVolume {
    private var size: Int { CheckpointedVolume.blockBytes }

    // MARK: - Reading

    func readLocked(_ list: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        var done = 0
        while done < list.byteCount {
            let position = Int(offset) + done
            let block = position / size
            let isHeld = blocks.place(block) == .scratch
            var end = block + 1
            let last = (Int(offset) + list.byteCount - 1) / size
            while isHeld, end <= last, blocks.place(end) == .scratch { end += 1 }
            let count = min(end * size - position, list.byteCount - done)
            slice.assign(list, from: done, limit: count)
            if isHeld {
                try scratch.read(slice, at: Int64(position))
            } else {
                try readBlock(block, into: buffer)
                var from = position - block * size
                slice.forEach { target in
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[from..<from + target.count]))
                    from += target.count
                }
            }
            done += count
        }
    }

    /// Reads a whole block as it is now.
    func readBlock(_ block: Int, into target: UnsafeMutableRawBufferPointer) throws(SystemError) {
        if try !readWritten(block, into: target) { try readBase(block, into: target) }
    }

    /// Reads a block that is not as in the base any more; false for one that is.
    func readWritten(_ block: Int, into target: UnsafeMutableRawBufferPointer) throws(SystemError) -> Bool {
        guard let address = target.baseAddress else { return true }
        switch blocks.place(block) {
        case .scratch: try scratch.read(vector(address), at: Int64(block) * Int64(size))
        case .zero: target.initializeMemory(as: UInt8.self, repeating: 0)
        case .base: return false
        }
        return true
    }

    /// Reads a block of the base, which never changes while somebody reads it: without the lock, too.
    func readBase(_ block: Int, into target: UnsafeMutableRawBufferPointer) throws(SystemError) {
        guard block < baseBlocks, base.has(block) else {
            target.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        do throws(PageSourceError) { try base.read(page: block, count: 1, into: target) } catch {
            throw SystemError("read", "block \(block) of a volume's checkpoint (\(error.reason))", errno: .inputOutput)
        }
    }

    /// Reads what a block of the oldest frozen generation held then.
    func readFrozen(_ block: Int, into target: UnsafeMutableRawBufferPointer) throws(SystemError) {
        if let slot = blocks.frozen.first?.aside[block], let address = target.baseAddress {
            try scratch.read(vector(address), at: place(ofSlot: slot))
        } else {
            try readBlock(block, into: target)
        }
        blocks.didReadOut(block)
    }

    private func vector(_ address: UnsafeMutableRawPointer) -> IOVectors {
        vectors.removeAll()
        vectors.append(base: address, count: size)
        return vectors
    }

    // MARK: - Writing

    func writeLocked(_ list: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        guard list.byteCount > 0 else { return }
        let first = Int(offset) / size
        let last = (Int(offset) + list.byteCount - 1) / size
        try prepare(first...last, at: offset, count: list.byteCount)
        // A write that fails half-way leaves blocks that count as changed: the checkpoint holds what the guest can read.
        for block in first...last { blocks.markDirty(block) }
        try scratch.write(list, at: offset)
        for block in first...last { blocks.setPlace(block, .scratch) }
    }

    func zeroLocked(at offset: Int64, count: Int64) throws(SystemError) {
        guard count > 0 else { return }
        let first = Int(offset) / size
        let last = Int(offset + count - 1) / size
        try prepare(first...last, at: offset, count: Int(count))
        for block in first...last { blocks.markDirty(block) }
        try scratch.zero(at: offset, count: count)
        for block in first...last {
            let isWhole = block * size >= Int(offset) && (block + 1) * size <= Int(offset + count)
            blocks.setPlace(block, isWhole ? .zero : .scratch)
        }
    }

    /// Before a change: frozen contents are kept aside, and blocks that are changed in part are copied into the scratch.
    private func prepare(_ range: ClosedRange<Int>, at offset: Int64, count: Int) throws(SystemError) {
        if !blocks.frozen.isEmpty {
            for block in range { try keepAside(block) }
        }
        let end = Int(offset) + count
        if Int(offset) % size != 0 { try copyUp(range.lowerBound) }
        if end % size != 0 { try copyUp(range.upperBound) }
    }

    private func keepAside(_ block: Int) throws(SystemError) {
        guard let index = blocks.frozenOwner(block), let address = buffer.baseAddress else { return }
        try readBlock(block, into: buffer)
        let slot = blocks.takeSlot()
        do throws(SystemError) { try scratch.write(vector(address), at: place(ofSlot: slot)) } catch {
            blocks.giveBack(slot: slot)
            throw error
        }
        blocks.keep(block, in: slot, for: index)
    }

    private func copyUp(_ block: Int) throws(SystemError) {
        guard blocks.place(block) != .scratch, let address = buffer.baseAddress else { return }
        try readBlock(block, into: buffer)
        try scratch.write(vector(address), at: Int64(block) * Int64(size))
        blocks.setPlace(block, .scratch)
    }

    /// Contents kept aside lie behind the disk's.
    private func place(ofSlot slot: Int) -> Int64 { byteCount + Int64(slot) * Int64(size) }
}
