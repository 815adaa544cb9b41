internal import AuroraVMM
internal import CLinux
import Linux
import Store

/// Makes one launch image in a directory of its own, then gives it its name.
struct LaunchBuilder {
    private static let runPages = 256
    let cache: LaunchCache
    let origin: LaunchOrigin
    let base: (origin: LaunchOrigin, image: LaunchImage)?
    let digest: String

    /// Builds it; one that somebody else has finished meanwhile is as good.
    ///
    /// - Throws: `LaunchError`; nothing is left then.
    func build() throws(LaunchError) {
        let lock = try cache.builders(LOCK_SH)
        defer { _ = clinux_flock(lock.rawValue, LOCK_UN) }
        let directory = "\(cache.path)/\(LaunchCache.newPrefix)\(digest)-\(getpid())-\(clinux_monotonic_nanoseconds())"
        try launchCall("create directory", directory) { clinux_mkdir(directory, 0o700) }
        do throws(LaunchError) {
            try fill(directory)
            try synchronize(directory)
            let result = clinux_rename_exclusive(directory, cache.directory(digest))
            if result == -Int(EEXIST) || result == -Int(ENOTEMPTY) {
                LaunchCache.removeTree(directory)
            } else {
                try launchCall("name", cache.directory(digest)) { result }
                try synchronize(cache.path)
            }
        } catch {
            LaunchCache.removeTree(directory)
            throw error
        }
    }

    // MARK: - Files

    private func fill(_ directory: String) throws(LaunchError) {
        let state: MachineState
        do throws(MachineError) { state = try MachineState(encoded: origin.state) } catch { throw .unsuitable("\(error)") }
        let pages = state.memory.reduce(0) { $0 + $1.count / pageBytes }
        guard origin.diskBytes > 0, origin.diskBytes % pageBytes == 0 else {
            throw .unsuitable("its root disk has \(origin.diskBytes) bytes")
        }
        var files: [String: LaunchManifest.File] = [:]
        files[LaunchImage.stateName] = try write(origin.state, "\(directory)/\(LaunchImage.stateName)")
        let names = [(LaunchImage.memoryName, UInt16(0), pages), (LaunchImage.diskName, 1, origin.diskBytes / pageBytes)]
        if let base {
            guard base.image.manifest.base == nil else { throw .unsuitable("its base is not a whole launch image") }
            guard base.image.manifest.pages == pages, base.image.manifest.diskBytes == origin.diskBytes else {
                throw .unsuitable("its memory or disk has another size than its base's")
            }
            let changed: [Store::PageKey]
            do throws(StoreError) { changed = try origin.reader.differences(from: base.origin.reader) } catch { throw .store("\(error)") }
            for (name, map, count) in names {
                let runs = LaunchRuns(covering: changed.filter { $0.map == map && $0.page < UInt64(count) }.map { Int($0.page) })
                files[name] = try pack(runs, map, "\(directory)/\(name)")
                files["\(name).runs"] = try write(runs.encoded, "\(directory)/\(name).runs")
            }
        } else {
            for (name, map, count) in names { files[name] = try copy(map, count, "\(directory)/\(name)") }
        }
        let manifest = LaunchManifest(digest: digest, base: base?.image.manifest.digest, origin, pages: pages, files: files)
        _ = try write(try manifest.encoded(), "\(directory)/\(LaunchManifest.fileName)")
    }

    /// A whole file: page n at n times the size of a page, zero pages left out.
    private func copy(_ map: UInt16, _ count: Int, _ path: String) throws(LaunchError) -> LaunchManifest.File {
        let stored: [PageReference]
        do throws(StoreError) { stored = try origin.reader.pages(inMap: map, 0..<UInt64(count)) } catch { throw .store("\(error)") }
        var runs: [LaunchRun] = []
        for reference in stored {
            let page = Int(reference.key.page)
            if let last = runs.last, last.first + last.count == page {
                runs[runs.count - 1].count += 1
            } else {
                runs.append(LaunchRun(first: page, count: 1, place: page))
            }
        }
        return try write(runs, map, pages: count, path)
    }

    /// The pages of runs, one after the other.
    private func pack(_ runs: LaunchRuns, _ map: UInt16, _ path: String) throws(LaunchError) -> LaunchManifest.File {
        try write(runs.runs, map, pages: runs.pageCount, path)
    }

    private func write(_ runs: [LaunchRun], _ map: UInt16, pages: Int, _ path: String) throws(LaunchError) -> LaunchManifest.File {
        let file = try create(path)
        let number = file.rawValue
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: LaunchBuilder.runPages * pageBytes, alignment: pageBytes)
        defer { buffer.deallocate() }
        var sum = LaunchChecksum()
        for run in runs {
            var done = 0
            while done < run.count {
                let count = min(LaunchBuilder.runPages, run.count - done)
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * pageBytes)])
                guard let key = Store::PageKey(map: map, page: UInt64(run.first + done)) else {
                    throw .unsuitable("page \(run.first + done) cannot be")
                }
                do throws(StoreError) { try origin.reader.readRun(from: key, into: part) } catch { throw .store("\(error)") }
                // Pages are mapped from here, so this is where instances come to differ.
                if map == 0 { InheritedGenerators.expire(in: part) }
                try write(UnsafeRawBufferPointer(part), to: number, atPage: run.place + done, path, &sum)
                done += count
            }
        }
        try launchCall("set the size of", path) { clinux_ftruncate(number, Int64(pages * pageBytes)) }
        try launchCall("write out", path) { clinux_fsync(number) }
        return .init(bytes: pages * pageBytes, checksum: sum.text)
    }

    /// Writes pages that are not zero; the others stay holes.
    private func write(
        _ bytes: UnsafeRawBufferPointer, to number: Int32, atPage first: Int, _ path: String, _ sum: inout LaunchChecksum
    ) throws(LaunchError) {
        sum.add(run: bytes, at: first)
        func isZero(_ page: Int) -> Bool {
            LaunchChecksum.isZero(UnsafeRawBufferPointer(rebasing: bytes[(page * pageBytes)..<((page + 1) * pageBytes)]))
        }
        var page = 0
        let count = bytes.count / pageBytes
        while page < count {
            var end = page
            while end < count, !isZero(end) { end += 1 }
            if end > page {
                try write(
                    UnsafeRawBufferPointer(rebasing: bytes[(page * pageBytes)..<(end * pageBytes)]), to: number,
                    at: (first + page) * pageBytes, path)
            }
            page = end + 1
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, to number: Int32, at offset: Int, _ path: String) throws(LaunchError) {
        var done = 0
        while done < bytes.count {
            let count = try launchCall("write", path) {
                clinux_pwrite(number, bytes.baseAddress.map { $0 + done }, bytes.count - done, Int64(offset + done))
            }
            guard count > 0 else { throw .system(SystemError("write", path, errno: .noSpace)) }
            done += count
        }
    }

    private func write(_ bytes: [UInt8], _ path: String) throws(LaunchError) -> LaunchManifest.File {
        let file = try create(path)
        let number = file.rawValue
        var failure: LaunchError?
        var sum = LaunchChecksum()
        bytes.withUnsafeBytes { buffer in
            sum.add(run: buffer, at: 0)
            do throws(LaunchError) { try write(buffer, to: number, at: 0, path) } catch { failure = error }
        }
        if let failure { throw failure }
        try launchCall("write out", path) { clinux_fsync(number) }
        return .init(bytes: bytes.count, checksum: sum.text)
    }

    private func create(_ path: String) throws(LaunchError) -> OwnedDescriptor {
        do throws(SystemError) { return try .open(path, O_RDWR | O_CREAT | O_EXCL) } catch { throw .system(error) }
    }

    private func synchronize(_ directory: String) throws(LaunchError) {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(directory, O_RDONLY | O_DIRECTORY)
            let number = file.rawValue
            try systemCall("write out", directory) { clinux_fsync(number) }
        } catch { throw .system(error) }
    }
}
