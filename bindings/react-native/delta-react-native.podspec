require 'json'

package = JSON.parse(File.read(File.join(__dir__, 'package.json')))

# The iOS side of the package. All Swift is one module here; the library is a framework beside it. Both are put there by
# packaging/npm/pack.sh.
Pod::Spec.new do |s|
  s.name = package['name']
  s.version = package['version']
  s.summary = package['description']
  s.license = package['license']
  # CocoaPods asks for an address. The pod comes with the npm package and is published nowhere else.
  s.homepage = package.fetch('homepage', 'https://delta.invalid')
  s.authors = 'The Delta contributors'
  s.source = { path: '.' }
  s.platforms = { ios: '16.0' }
  s.swift_version = '6.0'
  s.source_files = 'ios/*.{h,mm,swift}', 'ios/bindings/**/*.swift'
  s.vendored_frameworks = 'ios/CDelta.xcframework'
  s.resource_bundles = { 'DeltaPrivacy' => 'ios/bindings/DeltaKit/PrivacyInfo.xcprivacy' }
  s.frameworks = 'Security'
  install_modules_dependencies(s)
end
